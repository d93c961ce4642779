"""From scored boxes to detections: top-k, then class-wise non-maximum suppression, of TFLite built-ins alone."""

from dataclasses import dataclass

import keras
import tensorflow as tf

from keras_lightdet.boxes.overlap import pairwise_iou
from keras_lightdet.spec import Spec

SOFT_KINDS = ("gaussian", "linear")

_ONE_ULP = 2.0**-22  # relative: the least that tells two float32 scores apart for certain


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class SelectSpec(Spec):
    """How detections are chosen.

    Attributes:
        score_threshold: Lowest score of a detection, 0..1.
        iou_threshold: Of two boxes of one class that overlap more than this, the one with the higher score stays.
        max_detections: Most detections in an image.
        pre_nms_top_k: Candidates (pairs of box and class) that suppression looks at. Too few cost recall in crowded
            images, where the many boxes of each sure object push the unsure ones out: 500 in place of 1000 cost
            two points of AP50 on blood cells, 2000 gain a tenth.
        soft: None, or a kind of soft suppression (Bodla et al. 2017), where a box that overlaps a better one of its
            class stays with a lower score: "gaussian" multiplies it by `exp(-iou^2 / sigma)` whatever the overlap
            (eq. 3), "linear" by `1 - iou` beyond `iou_threshold` (eq. 2) and has no form in a .tflite.
        sigma: Of "gaussian".
    """

    score_threshold: float = 0.001
    iou_threshold: float = 0.45
    max_detections: int = 100
    pre_nms_top_k: int = 1000
    soft: str | None = None
    sigma: float = 0.5

    def __post_init__(self):
        if self.soft is not None and self.soft not in SOFT_KINDS:
            raise ValueError(f"Expected soft to be None or one of {SOFT_KINDS}, got {self.soft!r}.")
        if self.soft == "gaussian" and not self.sigma > 0:
            raise ValueError(f"Expected a positive sigma, got {self.sigma!r}.")


def select_detections(
    boxes: tf.Tensor, scores: tf.Tensor, spec: SelectSpec, *, built_ins_only: bool = False
) -> dict[str, tf.Tensor]:
    """Selects the best boxes of each image.

    Args:
        boxes: Xyxy pixels, clipped to the image: `[B, N, 4]`, or `[B, N, K, 4]` with a box for each class.
        scores: `[B, N, K]`, 0..1.
        spec: The rule.
        built_ins_only: Whether the graph goes into a .tflite. Gaussian soft suppression is then one
            NonMaxSuppressionV5, which XLA cannot compile, in place of a loop; hard suppression is the same either
            way. TFLite's V5 drops a box equal to a better one of its class, where the paper lowers its score.

    Returns:
        `{"boxes" [B, D, 4], "scores" [B, D], "labels" [B, D] int32, "count" [B] int32}`, best first, where D is
        `max_detections`. Slots past the count hold zeros, labels -1. A box without area is never selected. Scores are
        those that soft suppression leaves.

    Raises:
        ValueError: Linear soft suppression of built-ins alone.
    """
    if built_ins_only and spec.soft == "linear":
        raise ValueError("Expected soft suppression to be 'gaussian' in a .tflite, got 'linear'. Do use 'gaussian'.")
    if boxes.shape[0] == 1:  # what is exported: no loop in the graph
        one = tf.squeeze(boxes, 0), tf.squeeze(scores, 0)  # a slice would copy in TFLite
        picked = _select_one(*one, spec, built_ins_only)
        return {key: tf.expand_dims(value, 0) for key, value in picked.items()}
    signature = {
        "boxes": tf.TensorSpec((spec.max_detections, 4), tf.float32),
        "scores": tf.TensorSpec((spec.max_detections,), tf.float32),
        "labels": tf.TensorSpec((spec.max_detections,), tf.int32),
        "count": tf.TensorSpec((), tf.int32),
    }
    return tf.map_fn(
        lambda image: _select_one(*image, spec, built_ins_only), (boxes, scores), fn_output_signature=signature
    )


def best_pairs(boxes: tf.Tensor, scores: tf.Tensor, spec: SelectSpec) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the pairs of box and class of one image that suppression looks at, best first.

    Args:
        boxes: `[N, 4]`, or `[N, K, 4]` with a box for each class.
        scores: `[N, K]`.
        spec: Of which `pre_nms_top_k` is read.

    Returns:
        Boxes `[k, 4]`, scores `[k]`, -1 for a box without area, and labels int32 `[k]`.
    """
    num_classes = scores.shape[-1]
    # The best k pairs lie among the k boxes whose best class scores highest: a sort of N stands for one of N * K.
    _, rows = tf.math.top_k(tf.reduce_max(scores, axis=-1), _at_most(spec.pre_nms_top_k, scores.shape[0]))
    pair_scores = tf.reshape(tf.gather(scores, rows), [-1])
    top_scores, top = tf.math.top_k(pair_scores, _at_most(spec.pre_nms_top_k, pair_scores.shape[0]))
    labels = top % num_classes
    if boxes.shape.rank == 2:
        top_boxes = tf.gather(tf.gather(boxes, rows), top // num_classes)
    else:
        pairs = tf.gather(rows, top // num_classes) * num_classes + labels
        top_boxes = tf.gather(tf.reshape(boxes, [-1, 4]), pairs)
    # TFLite's suppression answers with copies of a box without area, and its custom op refuses it.
    has_area = tf.reduce_min(top_boxes[:, 2:] - top_boxes[:, :2], axis=-1) > 0
    return top_boxes, tf.where(has_area, top_scores, -1.0), labels


def _select_one(boxes: tf.Tensor, scores: tf.Tensor, spec: SelectSpec, built_ins_only: bool) -> dict[str, tf.Tensor]:
    top_boxes, top_scores, labels = best_pairs(boxes, scores, spec)
    # An int8 file gives many equal scores, among which runtimes choose differently unless their order is told.
    ranking = 1.0 - _ONE_ULP * tf.range(top_scores.shape[0], dtype=tf.float32)
    order = top_scores * ranking
    # Boxes of different classes are moved apart, so that one suppression serves all classes.
    spread = tf.reduce_max(top_boxes) + 1.0
    moved = top_boxes + tf.cast(labels, tf.float32)[:, None] * spread
    if spec.soft is None:
        kept, count = _suppress(moved, order, spec)
        kept_scores = tf.gather(top_scores, kept)
    else:
        suppress_softly = _suppress_softly_in_tflite if built_ins_only else _suppress_softly
        kept, kept_scores, count = suppress_softly(moved, order, spec)
        kept_scores = kept_scores / tf.gather(ranking, kept)
    real = tf.range(spec.max_detections) < count
    return {
        "boxes": tf.where(real[:, None], tf.gather(top_boxes, kept), 0.0),
        "scores": tf.where(real, kept_scores, 0.0),
        "labels": tf.where(real, tf.gather(labels, kept), -1),
        "count": count,
    }


def _suppress(boxes: tf.Tensor, scores: tf.Tensor, spec: SelectSpec) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.raw_ops.NonMaxSuppressionV4(
        boxes=boxes,
        scores=scores,
        max_output_size=spec.max_detections,
        iou_threshold=spec.iou_threshold,
        score_threshold=spec.score_threshold,
        pad_to_max_output_size=True,
    )


def _suppress_softly_in_tflite(boxes: tf.Tensor, scores: tf.Tensor, spec: SelectSpec) -> tuple[tf.Tensor, ...]:
    """Rows `[D]`, lowered scores `[D]` and count; TensorFlow's sigma is half of the paper's."""
    return tf.raw_ops.NonMaxSuppressionV5(
        boxes=boxes,
        scores=scores,
        max_output_size=spec.max_detections,
        iou_threshold=1.0,  # TFLite drops a box that overlaps as much, TensorFlow none
        score_threshold=spec.score_threshold,
        soft_nms_sigma=spec.sigma / 2,
        pad_to_max_output_size=True,
    )


def _suppress_softly(boxes: tf.Tensor, scores: tf.Tensor, spec: SelectSpec) -> tuple[tf.Tensor, ...]:
    """Rows `[D]`, lowered scores `[D]` and count: takes the best box and lowers the others, D times."""
    slots, rows = tf.range(spec.max_detections), tf.range(scores.shape[0])

    def take_one(slot, left, kept, kept_scores):
        best = tf.argmax(left, output_type=tf.int32)
        overlap = pairwise_iou(tf.gather(boxes, best)[None], boxes)[0]
        if spec.soft == "gaussian":
            factor = tf.exp(-tf.square(overlap) / spec.sigma)
        else:
            factor = tf.where(overlap > spec.iou_threshold, 1.0 - overlap, 1.0)
        kept = tf.where(slots == slot, best, kept)
        kept_scores = tf.where(slots == slot, tf.gather(left, best), kept_scores)
        return slot + 1, tf.where(rows == best, -1.0, left * factor), kept, kept_scores

    start = (0, scores, tf.zeros_like(slots), tf.zeros_like(slots, tf.float32))
    _, _, kept, kept_scores = tf.while_loop(lambda *_: True, take_one, start, maximum_iterations=spec.max_detections)
    # Scores fall from slot to slot, so those above the threshold come first.
    return kept, kept_scores, tf.reduce_sum(tf.cast(kept_scores > spec.score_threshold, tf.int32))


def _at_most(count: int, available: int | None) -> int:
    return count if available is None else min(count, available)
