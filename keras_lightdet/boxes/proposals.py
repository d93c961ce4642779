"""From a region proposal network's outputs to proposals: top-k, clipping and NMS with static shapes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import keras
import tensorflow as tf
from keras import ops

from keras_lightdet.boxes.coding import DeltaCoding
from keras_lightdet.spec import Spec
from keras_lightdet.types import DynamicSize, Tensor

_REJECTED = -1e9  # replaces the logit of a box that is no proposal
_MIN_LOGIT = -1e8

UNIT_CODING = DeltaCoding((1.0, 1.0, 1.0, 1.0))


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class ProposalSpec(Spec):
    """Settings of the selection of proposals (Ren et al. 2015, section 3.3; by level: Lin et al. 2017, section 4.1).

    Attributes:
        pre_nms_top_k: Anchors of each level that enter NMS: those of the highest objectness.
        post_nms_top_k: Proposals of an image, all levels together.
        iou_threshold: Of two boxes with a larger IoU, NMS keeps the one of higher objectness.
        min_size: Boxes with a side below this many pixels after clipping are dropped.
        per_level: Whether top-k and NMS are applied to each level separately.
    """

    pre_nms_top_k: int = 2000
    post_nms_top_k: int = 1000
    iou_threshold: float = 0.7
    min_size: float = 1e-3
    per_level: bool = True

    def __post_init__(self) -> None:
        if min(self.pre_nms_top_k, self.post_nms_top_k) < 1 or self.min_size <= 0:
            raise ValueError(
                f"Expected counts of at least 1 and a positive min_size, got {self!r}. TFLite's NMS returns copies of "
                "a box without area."
            )


class Regions(TypedDict):
    """Regions of interest of a batch.

    Attributes:
        boxes: Float32 `[B, R, 4]`, xyxy pixels; zeros where not valid.
        valid: Bool `[B, R]`.
    """

    boxes: Tensor
    valid: Tensor


class Proposals(Regions):
    """Proposals of a batch, best first.

    Attributes:
        scores: Float32 `[B, R]`, objectness 0..1; zeros where not valid.
    """

    scores: Tensor


def propose(
    objectness: Tensor,
    rpn_deltas: Tensor,
    anchors: Tensor,
    image_size: DynamicSize,
    spec: ProposalSpec,
    *,
    coding: DeltaCoding = UNIT_CODING,
    level_counts: Sequence[int] | None = None,
) -> Proposals:
    """Selects the proposals for the second stage. No gradient flows through them.

    A batch of one, the exported form, uses NonMaxSuppressionV4: one TFLite built-in. Larger batches use
    `tf.image.non_max_suppression_padded`, whose memory under XLA does not grow with the square of `pre_nms_top_k`.

    Args:
        objectness: `[B, N]` logits, in the order of `PyramidAnchors.generate`.
        rpn_deltas: `[B, N, 4]`, encoded by `coding`.
        anchors: `[N, 4]` xyxy pixels.
        image_size: `(height, width)` of the network input in pixels, to which boxes are clipped.
        spec: Settings.
        coding: Coding of `rpn_deltas`; the papers' divides by no standard deviation.
        level_counts: Anchors of each level, see `PyramidAnchors.level_counts`; None = one level.

    Returns:
        R = `post_nms_top_k` proposals, boxes within the image.
    """
    objectness, rpn_deltas = tf.stop_gradient(objectness), tf.stop_gradient(rpn_deltas)
    counts = level_counts if spec.per_level and level_counts is not None else (ops.shape(objectness)[1],)
    logits, rows, levels = _top_k_per_level(objectness, counts, spec.pre_nms_top_k)
    is_single = objectness.shape[0] == 1  # gathers without a batch axis are faster in TFLite
    if is_single:
        logits, rows, rpn_deltas = (tf.squeeze(tensor, 0) for tensor in (logits, rows, rpn_deltas))
        if len(counts) > 1:
            logits, order = tf.math.top_k(logits, ops.shape(logits)[0])
            rows, levels = tf.gather(rows, order), tf.gather(levels, order)
    deltas = tf.gather(rpn_deltas, rows, batch_dims=rows.shape.rank - 1)
    height, width = (ops.cast(side, "float32") for side in ops.unstack(ops.convert_to_tensor(image_size), 2))
    boxes = coding.decode(deltas, tf.gather(anchors, rows))
    boxes = tf.nn.relu(tf.minimum(boxes, tf.stack([width, height, width, height])))
    large = tf.reduce_min(boxes[..., 2:] - boxes[..., :2], axis=-1) >= spec.min_size
    logits = tf.where(large, logits, _REJECTED)
    # Boxes of different levels are shifted apart, so that one NMS handles all levels.
    shifted = boxes if len(counts) == 1 else boxes + (levels * (tf.maximum(height, width) + 1.0))[:, None]
    kept, count = _nms(shifted, logits, spec)
    kept = tf.ensure_shape(kept, (*objectness.shape[: 0 if is_single else 1], spec.post_nms_top_k))
    valid = tf.range(spec.post_nms_top_k) < count[..., None]
    kept_boxes = tf.gather(boxes, kept, batch_dims=kept.shape.rank - 1)
    kept_logits = tf.gather(logits, kept, batch_dims=kept.shape.rank - 1)
    proposals: Proposals = {
        "boxes": tf.where(valid[..., None], kept_boxes, 0.0),
        "scores": tf.where(valid, tf.sigmoid(kept_logits), 0.0),
        "valid": valid,
    }
    return tf.nest.map_structure(lambda tensor: tf.expand_dims(tensor, 0), proposals) if is_single else proposals


def add_ground_truth_boxes(proposals: Regions, boxes: Tensor, labels: Tensor, ignore: Tensor) -> Regions:
    """Adds the ground-truth boxes to the proposals, so that the second stage sees positives from the first step on.

    Args:
        proposals: From `propose`.
        boxes, labels, ignore: See `DetectionTargets`; boxes to ignore are not added.

    Returns:
        R + G regions.
    """
    real = ops.logical_and(labels >= 0, ops.logical_not(ops.cast(ignore, "bool")))
    boxes = ops.where(ops.expand_dims(real, -1), boxes, 0.0)
    return {
        "boxes": ops.concatenate([proposals["boxes"], boxes], axis=1),
        "valid": ops.concatenate([proposals["valid"], real], axis=1),
    }


def _top_k_per_level(objectness: Tensor, counts: Sequence[int], top_k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns logits and rows `[B, M]` of the best anchors of each level, and their levels `[M]`, float32."""
    logits, rows, levels, start = [], [], [], 0
    for level, count in enumerate(counts):
        level_top_k = min(top_k, count) if isinstance(count, int) else tf.minimum(top_k, count)
        level_logits, level_rows = tf.math.top_k(objectness[:, start : start + count], level_top_k)
        logits.append(level_logits)
        rows.append(level_rows + start)
        levels.append(tf.fill([level_top_k], float(level)))
        start += count
    return tf.concat(logits, axis=1), tf.concat(rows, axis=1), tf.concat(levels, axis=0)


def _nms(boxes: Tensor, logits: Tensor, spec: ProposalSpec) -> tuple[Tensor, Tensor]:
    """Returns the rows that NMS keeps and their count, for a batch or for one image whose boxes are sorted by logit."""
    options = {"iou_threshold": spec.iou_threshold, "score_threshold": _MIN_LOGIT, "pad_to_max_output_size": True}
    if boxes.shape.rank == 3:
        return tf.image.non_max_suppression_padded(
            boxes, logits, spec.post_nms_top_k, canonicalized_coordinates=True, **options
        )
    # An int8 file gives many equal logits, which runtimes order differently; ties are broken by rank.
    ranks = tf.cast(tf.range(ops.shape(logits)[0], 0, -1), tf.float32)
    scores = tf.where(logits > _MIN_LOGIT, ranks, _REJECTED)
    return tf.raw_ops.NonMaxSuppressionV4(boxes=boxes, scores=scores, max_output_size=spec.post_nms_top_k, **options)
