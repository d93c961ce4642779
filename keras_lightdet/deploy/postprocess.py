"""Post-processing of raw outputs in an exported detector: decoding and NMS, in the two forms that clients read.

Both forms use the detector's own `decode`. All outputs are float32; boxes are `(y_min, x_min, y_max, x_max)` relative
to the image, 0..1, clipped to it; rows from `count` on are padding.
"""

import math
from collections.abc import Callable

import tensorflow as tf

from keras_lightdet.boxes.nms import SelectSpec, best_pairs, select_detections
from keras_lightdet.detection.model import DetectorModel
from keras_lightdet.errors import ExportError
from keras_lightdet.types import Size, Tensor, Tensors

POSTPROCESS_FORMS = ("builtin", "custom_op", "none")
CUSTOM_OP = "TFLite_Detection_PostProcess"
OUTPUTS = ("boxes", "labels", "scores", "count")

# The custom op rejects a box without area. A side this small (relative to the image) must not become zero when the box
# is shifted; detectors do not report smaller ones.
_SMALLEST_SIDE = 1e-4
_SPACING = 2.0  # between the cells of two classes: more than a whole image, so that their boxes cannot overlap
_UNIT_ANCHOR = (0.0, 0.0, 1.0, 1.0)  # (y, x, h, w): leaves encodings unchanged

CustomOp = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor, Tensor]]


def build_postprocess(
    model: DetectorModel, form: str, select: SelectSpec | None = None
) -> Callable[[Tensors], Tensors]:
    """Returns the function from a detector's raw outputs (batch of one) to `OUTPUTS`.

    Args:
        model: Detector whose `decode` and `input_size` are used.
        form: "builtin" = `select_detections` (top-k and NonMaxSuppressionV4 or V5, TFLite built-ins only);
            "custom_op" = TFLite_Detection_PostProcess, which older clients of the Object Detection API expect.
        select: Thresholds and counts; None = the model's own.

    Raises:
        ExportError: An unknown form, or a kind of Soft-NMS that the form cannot express.
    """
    spec = select or model.select
    if spec.soft_nms == "linear" or (spec.soft_nms and form == "custom_op"):
        raise ExportError(
            f"Expected an NMS that a .tflite can express, got soft_nms={spec.soft_nms!r} for postprocess={form!r}. "
            "Pass select=SelectSpec(soft_nms='gaussian', ...) with postprocess='builtin', or soft_nms=None."
        )
    if form == "builtin":
        return lambda raw: _select(*model.decode(raw), spec=spec, input_size=model.input_size)
    if form == "custom_op":
        custom_op = detection_postprocess(spec)
        return lambda raw: _select_by_custom_op(
            *model.decode(raw), custom_op=custom_op, spec=spec, input_size=model.input_size
        )
    raise ExportError(f"Expected postprocess to be 'builtin' or 'custom_op', got {form!r}. Choose one of them.")


def _select(boxes: Tensor, scores: Tensor, *, spec: SelectSpec, input_size: Size) -> Tensors:
    selected = select_detections(boxes, scores, spec, built_ins_only=True)
    return {
        "boxes": _relative_yxyx(selected["boxes"], input_size),
        "labels": tf.cast(selected["labels"], tf.float32),
        "scores": selected["scores"],
        "count": tf.cast(selected["count"], tf.float32),
    }


def _relative_yxyx(boxes: Tensor, input_size: Size) -> Tensor:
    height, width = input_size
    x_min, y_min, x_max, y_max = tf.split(boxes, 4, axis=-1)
    boxes = tf.concat([y_min / height, x_min / width, y_max / height, x_max / width], axis=-1)
    return _clip(boxes)


def _clip(boxes: Tensor) -> Tensor:
    return tf.nn.relu(tf.minimum(boxes, 1.0))  # MINIMUM and RELU: `clip_by_value` is not a TFLite built-in


def _select_by_custom_op(
    boxes: Tensor, scores: Tensor, *, custom_op: CustomOp, spec: SelectSpec, input_size: Size
) -> Tensors:
    """Computes the outputs of `_select` by an op that runs NMS over all its boxes once for each of its classes.

    To make its cost independent of the number of classes, the op gets a single class, and the boxes of each real class
    are shifted to a cell of their own in a square grid. NMS then sees at most `pre_nms_top_k` pairs, and each class may
    have a box of its own.
    """
    columns = math.ceil(math.sqrt(scores.shape[-1]))  # a square grid stays close to 0, where float32 is finest
    boxes, scores, labels = best_pairs(tf.squeeze(boxes, 0), tf.squeeze(scores, 0), spec)
    corners = _relative_yxyx(boxes, input_size)
    low, high = corners[:, :2], corners[:, 2:]
    cells = _SPACING * tf.cast(tf.stack([labels // columns, labels % columns], axis=-1), tf.float32)
    encodings = tf.concat([(low + high) / 2 + cells, tf.math.log(tf.maximum(high - low, _SMALLEST_SIDE))], axis=-1)
    anchors = tf.tile([_UNIT_ANCHOR], (boxes.shape[0], 1))
    boxes, _, scores, count = custom_op(encodings[None], scores[None, :, None], anchors)
    valid = tf.range(spec.max_detections, dtype=tf.float32) < count  # the op does not write the other rows
    boxes, scores = tf.where(valid[:, None], boxes, 0.0), tf.where(valid, scores, 0.0)
    cells = tf.cast((boxes[..., :2] + boxes[..., 2:]) / (2 * _SPACING), tf.int32)
    labels = tf.cast(cells[..., 0] * columns + cells[..., 1], tf.float32)
    cells = tf.cast(cells, tf.float32)
    return {
        "boxes": _clip(boxes - _SPACING * tf.concat([cells, cells], axis=-1)),
        "labels": labels,
        "scores": scores,
        "count": count,
    }


def detection_postprocess(spec: SelectSpec) -> CustomOp:
    """Returns a function that the TFLite converter replaces by TFLite_Detection_PostProcess, for one class.

    It takes encodings `[1, k, 4]` as `(center y, center x, log height, log width)` of anchors `[k, 4]`, scores
    `[1, k, 1]` and the anchors. Its body computes the same as the op, so that eager calls and the file agree.
    """
    attributes = {
        "max_detections": ("i", spec.max_detections),
        "max_classes_per_detection": ("i", 1),
        "use_regular_nms": ("b", "false"),  # regular NMS stops at 100, as converters drop detections_per_class
        "nms_score_threshold": ("f", spec.score_threshold),
        "nms_iou_threshold": ("f", spec.iou_threshold),
        "y_scale": ("f", 1.0),
        "x_scale": ("f", 1.0),
        "h_scale": ("f", 1.0),
        "w_scale": ("f", 1.0),
        "num_classes": ("i", 1),
    }
    fields = (f'attr {{ key: "{key}" value {{ {kind}: {value} }} }}' for key, (kind, value) in attributes.items())

    @tf.function(experimental_implements=f'name: "{CUSTOM_OP}" {" ".join(fields)}')
    def postprocess(
        box_encodings: Tensor, class_predictions: Tensor, anchors: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        center = box_encodings[0, :, :2] * anchors[:, 2:] + anchors[:, :2]
        half = tf.exp(box_encodings[0, :, 2:]) * anchors[:, 2:] / 2
        boxes = tf.concat([center - half, center + half], axis=-1)
        scores = class_predictions[0, :, 0]
        kept = tf.image.non_max_suppression(
            boxes, scores, spec.max_detections, spec.iou_threshold, spec.score_threshold
        )
        missing = spec.max_detections - tf.shape(kept)[0]
        return (
            tf.pad(tf.gather(boxes, kept), [[0, missing], [0, 0]])[None],
            tf.zeros((1, spec.max_detections)),
            tf.pad(tf.gather(scores, kept), [[0, missing]])[None],
            tf.cast(tf.shape(kept), tf.float32),
        )

    return postprocess
