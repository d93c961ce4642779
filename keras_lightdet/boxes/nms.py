"""From scored boxes to detections: top-k, then class-wise non-maximum suppression (NMS) with TFLite built-ins only."""

from dataclasses import dataclass
from typing import TypedDict

import keras
import tensorflow as tf

from keras_lightdet.boxes.overlap import pairwise_iou
from keras_lightdet.spec import Spec
from keras_lightdet.types import Tensor

SOFT_NMS_KINDS = ("gaussian", "linear")

_RANK_STEP = 2.0**-22  # relative: the smallest step that always gives two float32 scores different values


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class SelectSpec(Spec):
    """Settings of the selection of detections.

    Attributes:
        score_threshold: Lowest score of a detection, 0..1.
        iou_threshold: Of two boxes of one class with a larger IoU, NMS keeps the one with the higher score.
        max_detections: Largest number of detections in an image.
        pre_nms_top_k: Candidates (pairs of box and class) that enter NMS. Too few lower the recall in crowded images,
            where the many boxes of each clear object displace those of the unclear ones: on blood cells 500 instead
            of 1000 lowered AP50 by two points, 2000 raised it by a tenth.
        soft_nms: None, or a kind of soft NMS (Bodla et al. 2017), which lowers the score of a box that overlaps a
            better one of its class instead of dropping it: "gaussian" multiplies it by `exp(-iou^2 / sigma)` at any
            overlap (eq. 3), "linear" by `1 - iou` above `iou_threshold` (eq. 2; not available in TFLite).
        sigma: Sigma of "gaussian".
    """

    score_threshold: float = 0.001
    iou_threshold: float = 0.45
    max_detections: int = 100
    pre_nms_top_k: int = 1000
    soft_nms: str | None = None
    sigma: float = 0.5

    def __post_init__(self) -> None:
        if self.soft_nms is not None and self.soft_nms not in SOFT_NMS_KINDS:
            raise ValueError(f"Expected soft_nms to be None or one of {SOFT_NMS_KINDS}, got {self.soft_nms!r}.")
        if self.soft_nms == "gaussian" and not self.sigma > 0:
            raise ValueError(f"Expected a positive sigma, got {self.sigma!r}.")


class SelectedDetections(TypedDict):
    """Detections of a batch, best first, with padding up to `SelectSpec.max_detections` D.

    Attributes:
        boxes: Float32 `[B, D, 4]`, xyxy pixels; zeros in padding.
        scores: Float32 `[B, D]`; zeros in padding.
        labels: Int32 `[B, D]`; -1 in padding.
        count: Int32 `[B]`, number of detections.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    count: Tensor


def select_detections(
    boxes: Tensor, scores: Tensor, spec: SelectSpec, *, built_ins_only: bool = False
) -> SelectedDetections:
    """Selects the best boxes of each image.

    Args:
        boxes: Xyxy pixels, clipped to the image: `[B, N, 4]`, or `[B, N, K, 4]` with a box for each class.
        scores: `[B, N, K]`, 0..1.
        spec: Settings.
        built_ins_only: Whether the graph is converted to TFLite. Gaussian soft NMS is then one NonMaxSuppressionV5,
            which XLA cannot compile, instead of a loop; hard NMS is the same in both cases. TFLite's V5 drops a box
            equal to a better one of its class, where the paper lowers its score.

    Returns:
        The detections. A box without area is never selected. Scores are those after soft NMS.

    Raises:
        ValueError: If `built_ins_only` is combined with linear soft NMS.
    """
    if built_ins_only and spec.soft_nms == "linear":
        raise ValueError("Expected soft_nms to be 'gaussian' in TFLite, got 'linear'. Use 'gaussian'.")
    if boxes.shape[0] == 1:  # the exported form: no loop in the graph; a slice would copy in TFLite
        selected = _select_in_image(tf.squeeze(boxes, 0), tf.squeeze(scores, 0), spec, built_ins_only)
        return tf.nest.map_structure(lambda tensor: tf.expand_dims(tensor, 0), selected)
    signature = {
        "boxes": tf.TensorSpec((spec.max_detections, 4), tf.float32),
        "scores": tf.TensorSpec((spec.max_detections,), tf.float32),
        "labels": tf.TensorSpec((spec.max_detections,), tf.int32),
        "count": tf.TensorSpec((), tf.int32),
    }
    return tf.map_fn(
        lambda image: _select_in_image(image[0], image[1], spec, built_ins_only),
        (boxes, scores),
        fn_output_signature=signature,
    )


def best_pairs(boxes: Tensor, scores: Tensor, spec: SelectSpec) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the pairs of box and class of one image that enter NMS, best first.

    Args:
        boxes: `[N, 4]`, or `[N, K, 4]` with a box for each class.
        scores: `[N, K]`.
        spec: Settings; only `pre_nms_top_k` is used.

    Returns:
        Boxes `[k, 4]`, scores `[k]`, -1 for a box without area, and labels int32 `[k]`.
    """
    num_classes = scores.shape[-1]
    # The best k pairs lie among the k boxes with the best class score: sorting N values replaces sorting N * K.
    _, rows = tf.math.top_k(tf.reduce_max(scores, axis=-1), _at_most(spec.pre_nms_top_k, scores.shape[0]))
    pair_scores = tf.reshape(tf.gather(scores, rows), [-1])
    top_scores, top = tf.math.top_k(pair_scores, _at_most(spec.pre_nms_top_k, pair_scores.shape[0]))
    labels = top % num_classes
    if boxes.shape.rank == 2:
        top_boxes = tf.gather(tf.gather(boxes, rows), top // num_classes)
    else:
        pairs = tf.gather(rows, top // num_classes) * num_classes + labels
        top_boxes = tf.gather(tf.reshape(boxes, [-1, 4]), pairs)
    # TFLite's NMS returns copies of a box without area, and its custom op rejects such a box.
    has_area = tf.reduce_min(top_boxes[:, 2:] - top_boxes[:, :2], axis=-1) > 0
    return top_boxes, tf.where(has_area, top_scores, -1.0), labels


def _select_in_image(boxes: Tensor, scores: Tensor, spec: SelectSpec, built_ins_only: bool) -> SelectedDetections:
    top_boxes, top_scores, labels = best_pairs(boxes, scores, spec)
    # An int8 file gives many equal scores, which runtimes order differently; ties are broken by rank.
    rank_factor = 1.0 - _RANK_STEP * tf.range(top_scores.shape[0], dtype=tf.float32)
    ranked_scores = top_scores * rank_factor
    # Boxes of different classes are shifted apart, so that one NMS handles all classes.
    spacing = tf.reduce_max(top_boxes) + 1.0
    shifted = top_boxes + tf.cast(labels, tf.float32)[:, None] * spacing
    options = {
        "boxes": shifted,
        "scores": ranked_scores,
        "max_output_size": spec.max_detections,
        "score_threshold": spec.score_threshold,
        "pad_to_max_output_size": True,
    }
    if spec.soft_nms is None:
        kept, count = tf.raw_ops.NonMaxSuppressionV4(**options, iou_threshold=spec.iou_threshold)
        kept_scores = tf.gather(top_scores, kept)
    else:
        if built_ins_only:
            # TFLite drops a box with an equal IoU, TensorFlow none. TensorFlow's sigma is half of the paper's.
            soft = {"iou_threshold": 1.0, "soft_nms_sigma": spec.sigma / 2}
            kept, kept_scores, count = tf.raw_ops.NonMaxSuppressionV5(**options, **soft)
        else:
            kept, kept_scores, count = _soft_nms(shifted, ranked_scores, spec)
        kept_scores = kept_scores / tf.gather(rank_factor, kept)
    real = tf.range(spec.max_detections) < count
    return {
        "boxes": tf.where(real[:, None], tf.gather(top_boxes, kept), 0.0),
        "scores": tf.where(real, kept_scores, 0.0),
        "labels": tf.where(real, tf.gather(labels, kept), -1),
        "count": count,
    }


def _soft_nms(boxes: Tensor, scores: Tensor, spec: SelectSpec) -> tuple[Tensor, Tensor, Tensor]:
    """Returns rows `[D]`, lowered scores `[D]` and count: picks the best box and lowers the others, D times."""
    slots, rows = tf.range(spec.max_detections), tf.range(scores.shape[0])

    def pick_next(slot: Tensor, remaining: Tensor, kept: Tensor, kept_scores: Tensor) -> tuple[Tensor, ...]:
        best = tf.argmax(remaining, output_type=tf.int32)
        overlap = pairwise_iou(tf.gather(boxes, best)[None], boxes)[0]
        if spec.soft_nms == "gaussian":
            factor = tf.exp(-tf.square(overlap) / spec.sigma)
        else:
            factor = tf.where(overlap > spec.iou_threshold, 1.0 - overlap, 1.0)
        kept = tf.where(slots == slot, best, kept)
        kept_scores = tf.where(slots == slot, tf.gather(remaining, best), kept_scores)
        return slot + 1, tf.where(rows == best, -1.0, remaining * factor), kept, kept_scores

    start = (0, scores, tf.zeros_like(slots), tf.zeros_like(slots, tf.float32))
    _, _, kept, kept_scores = tf.while_loop(lambda *_: True, pick_next, start, maximum_iterations=spec.max_detections)
    # Scores fall from slot to slot, so those above the threshold come first.
    return kept, kept_scores, tf.reduce_sum(tf.cast(kept_scores > spec.score_threshold, tf.int32))


def _at_most(count: int, available: int | None) -> int:
    return count if available is None else min(count, available)
