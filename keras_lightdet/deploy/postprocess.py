"""From a detector's raw outputs to the detections of a .tflite, in the forms its clients read.

Both forms start from the detector's own `decode`; there is no second decoder. All outputs are float32, boxes
are `(y_min, x_min, y_max, x_max)` in 0..1 of the picture and clipped to it, and rows from `count` on are
padding.
"""

from collections.abc import Callable

import tensorflow as tf

from keras_lightdet.boxes.selection import SelectSpec, candidate_rows, select_detections
from keras_lightdet.errors import ExportError

POSTPROCESS_FORMS = ("builtin", "custom_op", "none")
CUSTOM_OP = "TFLite_Detection_PostProcess"
OUTPUTS = ("boxes", "labels", "scores", "count")

# The op refuses a box without area; a box this small (relative) is none that a detector reports.
_SMALLEST_SIDE = 1e-5
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
        post = detection_postprocess(select, model.num_classes)
        return lambda raw: _apply_custom_op(post, *_candidates(*model.decode(raw), select), model.input_size)
    raise ExportError(f"Expected postprocess to be 'builtin' or 'custom_op', got {form!r}. Do choose one.")


def _candidates(boxes: tf.Tensor, scores: tf.Tensor, spec: SelectSpec) -> tuple[tf.Tensor, tf.Tensor]:
    """The boxes that suppression looks at, `[1, k, 4]` and `[1, k, K]`, as the op reads every score of each class.

    Boxes without area, which the op refuses, lose their scores.

    Raises:
        ExportError: Each class has a box of its own: the op knows one for all.
    """
    if boxes.shape.rank != 3:
        raise ExportError(
            f"Expected one box for all classes for postprocess='custom_op', got boxes of shape {boxes.shape}. Do "
            "choose postprocess='builtin'."
        )
    boxes, scores = tf.squeeze(boxes, 0), tf.squeeze(scores, 0)
    rows = candidate_rows(scores, spec)
    boxes, scores = tf.gather(boxes, rows)[None], tf.gather(scores, rows)[None]
    sides = boxes[..., 2:] - boxes[..., :2]
    real = tf.cast(tf.reduce_min(sides, axis=-1, keepdims=True) > 0, tf.float32)
    return boxes, scores * real


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


def _apply_custom_op(post: Callable, boxes: tf.Tensor, scores: tf.Tensor, input_size: tuple[int, int]) -> Tensors:
    corners = _relative_yxyx(boxes, input_size)
    low, high = corners[..., :2], corners[..., 2:]
    encodings = tf.concat([(low + high) / 2, tf.math.log(tf.maximum(high - low, _SMALLEST_SIDE))], axis=-1)
    anchors = tf.tile([_UNIT_ANCHOR], (boxes.shape[1], 1))
    boxes, labels, scores, count = post(encodings, scores, anchors)
    return {"boxes": _clip(boxes), "labels": labels, "scores": scores, "count": count}


def detection_postprocess(spec: SelectSpec, num_classes: int) -> Callable:
    """Returns a function that the TFLite converter replaces by TFLite_Detection_PostProcess.

    Its body is the op's meaning in TensorFlow, so that an eager call and the file answer alike: regular
    (per-class) suppression, with scales of 1.

    Args:
        spec: A `SelectSpec`.
        num_classes: Columns of the scores.
    """
    attributes = {
        "max_detections": ("i", spec.max_detections),
        "max_classes_per_detection": ("i", 1),
        "detections_per_class": ("i", spec.max_detections),
        "use_regular_nms": ("b", "true"),
        "nms_score_threshold": ("f", spec.score_threshold),
        "nms_iou_threshold": ("f", spec.iou_threshold),
        "y_scale": ("f", 1.0),
        "x_scale": ("f", 1.0),
        "h_scale": ("f", 1.0),
        "w_scale": ("f", 1.0),
        "num_classes": ("i", num_classes),
    }
    fields = (f'attr {{ key: "{key}" value {{ {kind}: {value} }} }}' for key, (kind, value) in attributes.items())

    @tf.function(experimental_implements=f'name: "{CUSTOM_OP}" {" ".join(fields)}')
    def post(box_encodings, class_predictions, anchors):
        center = box_encodings[0, :, :2] * anchors[:, 2:] + anchors[:, :2]
        half = tf.exp(box_encodings[0, :, 2:]) * anchors[:, 2:] / 2
        boxes = tf.concat([center - half, center + half], axis=-1)
        return _suppress_per_class(boxes, class_predictions[0], spec)

    return post


def _suppress_per_class(boxes: tf.Tensor, scores: tf.Tensor, spec: SelectSpec) -> tuple[tf.Tensor, ...]:
    """Per-class suppression of `[N, 4]` boxes and `[N, K]` scores, padded by zeros to `max_detections`."""
    num_classes = scores.shape[1]
    labels = tf.cast(tf.tile(tf.range(num_classes), [scores.shape[0]]), tf.float32)
    repeated = tf.repeat(boxes, num_classes, axis=0)
    # Boxes of different classes are moved so far apart that they cannot overlap: 2 is more than a whole
    # picture.
    kept = tf.image.non_max_suppression(
        repeated + 2 * labels[:, None],
        tf.reshape(scores, [-1]),
        spec.max_detections,
        spec.iou_threshold,
        spec.score_threshold,
    )
    missing = spec.max_detections - tf.shape(kept)[0]
    return (
        tf.pad(tf.gather(repeated, kept), [[0, missing], [0, 0]])[None],
        tf.pad(tf.gather(labels, kept), [[0, missing]])[None],
        tf.pad(tf.gather(tf.reshape(scores, [-1]), kept), [[0, missing]])[None],
        tf.cast(tf.shape(kept), tf.float32),
    )
