"""From scored boxes to detections: top-k, then class-wise non-maximum suppression, of TFLite built-ins alone."""

from dataclasses import dataclass

import keras
import tensorflow as tf

from keras_lightdet.boxes.spec import Spec

_ONE_ULP = 2.0**-22  # relative: the least that tells two float32 scores apart for certain


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class SelectSpec(Spec):
    """How detections are chosen.

    Attributes:
        score_threshold: Lowest score of a detection, 0..1.
        iou_threshold: Of two boxes of one class that overlap more than this, the one with the higher score stays.
        max_detections: Most detections in a picture.
        pre_nms_top_k: Candidates (pairs of box and class) that suppression looks at. Too few cost recall in crowded
            pictures, where the many boxes of each sure object push the unsure ones out: 500 in place of 1000 cost
            two points of AP50 on blood cells, 2000 gain a tenth.
    """

    score_threshold: float = 0.001
    iou_threshold: float = 0.45
    max_detections: int = 100
    pre_nms_top_k: int = 1000


def select_detections(boxes: tf.Tensor, scores: tf.Tensor, spec: SelectSpec) -> dict[str, tf.Tensor]:
    """Selects the best boxes of each picture.

    Args:
        boxes: `[B, N, 4]` xyxy pixels, clipped to the picture.
        scores: `[B, N, K]`, 0..1.
        spec: The rule.

    Returns:
        `{"boxes" [B, D, 4], "scores" [B, D], "labels" [B, D] int32, "count" [B] int32}`, best first, where D is
        `max_detections`. Slots past
        the count hold zeros, labels -1. A box without area is never selected.
    """
    if boxes.shape[0] == 1:  # what is exported: no loop in the graph
        picked = _select_one(tf.squeeze(boxes, 0), tf.squeeze(scores, 0), spec)  # a slice would copy in TFLite
        return {key: tf.expand_dims(value, 0) for key, value in picked.items()}
    signature = {
        "boxes": tf.TensorSpec((spec.max_detections, 4), tf.float32),
        "scores": tf.TensorSpec((spec.max_detections,), tf.float32),
        "labels": tf.TensorSpec((spec.max_detections,), tf.int32),
        "count": tf.TensorSpec((), tf.int32),
    }
    return tf.map_fn(lambda picture: _select_one(*picture, spec), (boxes, scores), fn_output_signature=signature)


def _select_one(boxes: tf.Tensor, scores: tf.Tensor, spec: SelectSpec) -> dict[str, tf.Tensor]:
    num_classes = scores.shape[-1]
    # The best k pairs of box and class lie among the k boxes whose best class scores highest: a sort of N instead of
    # N * K.
    _, rows = tf.math.top_k(tf.reduce_max(scores, axis=-1), _at_most(spec.pre_nms_top_k, scores.shape[0]))
    pair_scores = tf.reshape(tf.gather(scores, rows), [-1])
    top_scores, top = tf.math.top_k(pair_scores, _at_most(spec.pre_nms_top_k, pair_scores.shape[0]))
    labels = top % num_classes
    top_boxes = tf.gather(tf.gather(boxes, rows), top // num_classes)
    # TFLite's suppression answers with copies of a box without area.
    has_area = tf.reduce_min(top_boxes[:, 2:] - top_boxes[:, :2], axis=-1) > 0
    # An int8 file gives many equal scores, among which runtimes choose differently unless their order is told.
    order = top_scores * (1.0 - _ONE_ULP * tf.range(top_scores.shape[0], dtype=tf.float32))
    order = tf.where(has_area, order, -1.0)
    # Boxes of different classes are moved apart, so that one suppression serves all classes.
    spread = tf.reduce_max(top_boxes) + 1.0
    moved = top_boxes + tf.cast(labels, tf.float32)[:, None] * spread
    kept, count = tf.raw_ops.NonMaxSuppressionV4(
        boxes=moved,
        scores=order,
        max_output_size=spec.max_detections,
        iou_threshold=spec.iou_threshold,
        score_threshold=spec.score_threshold,
        pad_to_max_output_size=True,
    )
    real = tf.range(spec.max_detections) < count
    return {
        "boxes": tf.where(real[:, None], tf.gather(top_boxes, kept), 0.0),
        "scores": tf.where(real, tf.gather(top_scores, kept), 0.0),
        "labels": tf.where(real, tf.gather(labels, kept), -1),
        "count": count,
    }


def _at_most(count: int, available: int | None) -> int:
    return count if available is None else min(count, available)
