"""From a detector's raw outputs to the detections of a .tflite, in the forms its clients read.

Both forms start from the detector's own `decode`; there is no second decoder. All outputs are float32, boxes
are `(y_min, x_min, y_max, x_max)` in 0..1 of the image and clipped to it, and rows from `count` on are
padding.
"""

import math
from collections.abc import Callable

import tensorflow as tf

from keras_lightdet.boxes.nms import SelectSpec, best_pairs, select_detections
from keras_lightdet.errors import ExportError

POSTPROCESS_FORMS = ("builtin", "custom_op", "none")
CUSTOM_OP = "TFLite_Detection_PostProcess"
OUTPUTS = ("boxes", "labels", "scores", "count")

# The op refuses a box without area, which a side must not become when its box is moved; a side this small (relative) is
# none that a detector reports.
_SMALLEST_SIDE = 1e-4
_SPACING = 2.0  # of the classes' places: more than a whole image, so that boxes of two classes cannot overlap
_UNIT_ANCHOR = (0.0, 0.0, 1.0, 1.0)  # (y, x, h, w): encodings stay what they are

Tensors = dict[str, tf.Tensor]


def build_postprocess(model, form: str, select: SelectSpec | None = None) -> Callable[[Tensors], Tensors]:
    """Returns the function from a detector's raw outputs (batch of one) to `OUTPUTS`.

    Args:
        model: A `DetectorModel`; its `decode` and `input_size` are used.
        form: "builtin" = `select_detections` (top-k and NonMaxSuppressionV4 or V5, TFLite built-ins only);
            "custom_op" = TFLite_Detection_PostProcess, which older clients of the Object Detection API
            expect.
        select: Thresholds and counts; None = the model's own.

    Raises:
        ExportError: An unknown form, or soft suppression that it cannot express.
    """
    select = select or model.select
    if select.soft == "linear" or (select.soft and form == "custom_op"):
        raise ExportError(
            f"Expected suppression that a .tflite can express, got soft={select.soft!r} for postprocess={form!r}. Do "
            "pass select=SelectSpec(soft='gaussian', ...) with postprocess='builtin', or soft=None."
        )
    if form == "builtin":
        return lambda raw: _select(*model.decode(raw), select, model.input_size)
    if form == "custom_op":
        post = detection_postprocess(select)
        return lambda raw: _select_by_custom_op(post, *model.decode(raw), select, model.input_size)
    raise ExportError(f"Expected postprocess to be 'builtin' or 'custom_op', got {form!r}. Do choose one.")


def _select(boxes: tf.Tensor, scores: tf.Tensor, spec: SelectSpec, input_size: tuple[int, int]) -> Tensors:
    found = select_detections(boxes, scores, spec, built_ins_only=True)
    return {
        "boxes": _relative_yxyx(found["boxes"], input_size),
        "labels": tf.cast(found["labels"], tf.float32),
        "scores": found["scores"],
        "count": tf.cast(found["count"], tf.float32),
    }


def _relative_yxyx(boxes: tf.Tensor, input_size: tuple[int, int]) -> tf.Tensor:
    height, width = input_size
    x_min, y_min, x_max, y_max = tf.split(boxes, 4, axis=-1)
    boxes = tf.concat([y_min / height, x_min / width, y_max / height, x_max / width], axis=-1)
    return _clip(boxes)


def _clip(boxes: tf.Tensor) -> tf.Tensor:
    return tf.nn.relu(tf.minimum(boxes, 1.0))  # MINIMUM and RELU: `clip_by_value` is no TFLite built-in of its own


def _select_by_custom_op(
    post: Callable, boxes: tf.Tensor, scores: tf.Tensor, spec: SelectSpec, input_size: tuple[int, int]
) -> Tensors:
    """As `_select`, by an op that works through all its boxes for each class it is told of.

    So it is told of one, and the classes lie side by side, each in its own place of a square: their number then costs
    nothing, no more pairs are looked at than `spec` says, and each class may have a box of its own.
    """
    across = math.ceil(math.sqrt(scores.shape[-1]))  # a square keeps the places near 0, where float32 is finest
    boxes, scores, labels = best_pairs(tf.squeeze(boxes, 0), tf.squeeze(scores, 0), spec)
    corners = _relative_yxyx(boxes, input_size)
    low, high = corners[:, :2], corners[:, 2:]
    places = _SPACING * tf.cast(tf.stack([labels // across, labels % across], axis=-1), tf.float32)
    encodings = tf.concat([(low + high) / 2 + places, tf.math.log(tf.maximum(high - low, _SMALLEST_SIDE))], axis=-1)
    anchors = tf.tile([_UNIT_ANCHOR], (boxes.shape[0], 1))
    boxes, _, scores, count = post(encodings[None], scores[None, :, None], anchors)
    real = tf.range(spec.max_detections, dtype=tf.float32) < count  # the op leaves the other slots unwritten
    boxes, scores = tf.where(real[:, None], boxes, 0.0), tf.where(real, scores, 0.0)
    places = tf.cast((boxes[..., :2] + boxes[..., 2:]) / (2 * _SPACING), tf.int32)
    labels = tf.cast(places[..., 0] * across + places[..., 1], tf.float32)
    places = tf.cast(places, tf.float32)
    return {
        "boxes": _clip(boxes - _SPACING * tf.concat([places, places], axis=-1)),
        "labels": labels,
        "scores": scores,
        "count": count,
    }


def detection_postprocess(spec: SelectSpec) -> Callable:
    """Returns a function that the TFLite converter replaces by TFLite_Detection_PostProcess, for one class.

    It takes encodings `[1, k, 4]` as `(center y, center x, log height, log width)` of anchors `[k, 4]`, scores
    `[1, k, 1]` and the anchors. Its body is the op's meaning in TensorFlow, so that an eager call and the file answer
    alike.
    """
    attributes = {
        "max_detections": ("i", spec.max_detections),
        "max_classes_per_detection": ("i", 1),
        "use_regular_nms": ("b", "false"),  # the regular form ends at 100, as converters drop detections_per_class
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
    def post(box_encodings, class_predictions, anchors):
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

    return post
