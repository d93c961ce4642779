"""From a region proposal network's outputs to regions: top-k, clipping and suppression with static shapes."""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import tensorflow as tf
from keras import ops

from keras_lightdet.boxes.coding import DeltaCoding
from keras_lightdet.spec import Spec

_NEVER = -1e9  # in place of the logit of a box that is no proposal
_LEAST_LOGIT = -1e8

UNIT_CODING = DeltaCoding((1.0, 1.0, 1.0, 1.0))


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class ProposalSpec(Spec):
    """How proposals are chosen (Ren et al. 2015, section 3.3; by level: Lin et al. 2017, section 4.1).

    Attributes:
        pre_nms_top_k: Anchors, of each level, that suppression looks at: those of the highest objectness.
        post_nms_top_k: Proposals of an image, all levels together.
        iou_threshold: Of two boxes that overlap more than this, the one of higher objectness stays.
        min_size: Boxes with a side below this many pixels after clipping are left out.
        per_level: Whether top-k and suppression treat each level by itself.
    """

    pre_nms_top_k: int = 2000
    post_nms_top_k: int = 1000
    iou_threshold: float = 0.7
    min_size: float = 1e-3
    per_level: bool = True

    def __post_init__(self):
        if min(self.pre_nms_top_k, self.post_nms_top_k) < 1 or self.min_size <= 0:
            raise ValueError(
                f"Expected counts of at least 1 and a positive min_size, got {self!r}. TFLite's suppression answers "
                "with copies of a box without area."
            )


def propose(
    objectness: tf.Tensor,
    rpn_deltas: tf.Tensor,
    anchors: tf.Tensor,
    image_size: Sequence[int] | tf.Tensor,
    spec: ProposalSpec,
    *,
    coding: DeltaCoding = UNIT_CODING,
    level_counts: Sequence[int] | None = None,
) -> dict[str, tf.Tensor]:
    """Chooses the regions that the second stage looks at. No gradient flows through them.

    A batch of one, which is what is exported, takes NonMaxSuppressionV4: one TFLite built-in. Larger batches take
    `tf.image.non_max_suppression_padded`, whose memory under XLA does not grow with the square of `pre_nms_top_k`.

    Args:
        objectness: `[B, N]` logits, in the order of `PyramidAnchors.generate`.
        rpn_deltas: `[B, N, 4]`, coded by `coding`.
        anchors: `[N, 4]` xyxy pixels.
        image_size: `(height, width)` of the network input in pixels, which boxes are clipped to.
        spec: The rule.
        coding: Of `rpn_deltas`; that of the papers divides by no standard deviation.
        level_counts: Anchors of each level, see `PyramidAnchors.level_counts`; None = one level.

    Returns:
        `{"boxes" [B, R, 4], "scores" [B, R], "valid" [B, R] bool}`, best first, where R is `post_nms_top_k`: xyxy
        pixels inside the image and probabilities 0..1. Slots that are not valid hold zeros.
    """
    objectness, rpn_deltas = tf.stop_gradient(objectness), tf.stop_gradient(rpn_deltas)
    counts = level_counts if spec.per_level and level_counts is not None else (ops.shape(objectness)[1],)
    logits, rows, levels = _best_of_levels(objectness, counts, spec.pre_nms_top_k)
    one = objectness.shape[0] == 1  # gathers without a batch axis are the quicker ones in TFLite
    if one:
        logits, rows, rpn_deltas = (tf.squeeze(part, 0) for part in (logits, rows, rpn_deltas))
        if len(counts) > 1:
            logits, order = tf.math.top_k(logits, ops.shape(logits)[0])
            rows, levels = tf.gather(rows, order), tf.gather(levels, order)
    deltas = tf.gather(rpn_deltas, rows, batch_dims=rows.shape.rank - 1)
    height, width = (ops.cast(side, "float32") for side in ops.unstack(ops.convert_to_tensor(image_size), 2))
    boxes = coding.decode(deltas, tf.gather(anchors, rows))
    boxes = tf.nn.relu(tf.minimum(boxes, tf.stack([width, height, width, height])))
    large = tf.reduce_min(boxes[..., 2:] - boxes[..., :2], axis=-1) >= spec.min_size
    logits = tf.where(large, logits, _NEVER)
    # Boxes of different levels are moved apart, so that one suppression serves all levels.
    moved = boxes if len(counts) == 1 else boxes + (levels * (tf.maximum(height, width) + 1.0))[:, None]
    kept, count = (_suppress_one if one else _suppress_batch)(moved, logits, spec)
    kept = tf.ensure_shape(kept, (*objectness.shape[: 0 if one else 1], spec.post_nms_top_k))
    valid = tf.range(spec.post_nms_top_k) < count[..., None]
    kept_boxes = tf.gather(boxes, kept, batch_dims=kept.shape.rank - 1)
    kept_logits = tf.gather(logits, kept, batch_dims=kept.shape.rank - 1)
    found = {
        "boxes": tf.where(valid[..., None], kept_boxes, 0.0),
        "scores": tf.where(valid, tf.sigmoid(kept_logits), 0.0),
        "valid": valid,
    }
    return {key: tf.expand_dims(value, 0) for key, value in found.items()} if one else found


def add_ground_truth_boxes(proposals: dict, boxes, labels, ignore) -> dict:
    """Adds the true boxes to the proposals, so that the second stage sees positives from the first step on.

    Args:
        proposals: From `propose`.
        boxes: `[B, G, 4]` xyxy pixels.
        labels: `[B, G]`, -1 for padding.
        ignore: `[B, G]`, bool or 1 and 0; boxes to ignore are not added.

    Returns:
        `{"boxes" [B, R + G, 4], "valid" [B, R + G] bool}`; slots that are not valid hold zeros.
    """
    real = ops.logical_and(labels >= 0, ops.logical_not(ops.cast(ignore, "bool")))
    boxes = ops.where(ops.expand_dims(real, -1), boxes, 0.0)
    return {
        "boxes": ops.concatenate([proposals["boxes"], boxes], axis=1),
        "valid": ops.concatenate([proposals["valid"], real], axis=1),
    }


def _best_of_levels(objectness: tf.Tensor, counts: Sequence[int], top_k: int) -> tuple:
    """Logits and rows `[B, M]` of the best anchors of each level, and the levels `[M]` they are from, float32."""
    logits, rows, levels, start = [], [], [], 0
    for level, count in enumerate(counts):
        wanted = min(top_k, count) if isinstance(count, int) else tf.minimum(top_k, count)
        best, places = tf.math.top_k(objectness[:, start : start + count], wanted)
        logits.append(best)
        rows.append(places + start)
        levels.append(tf.fill([wanted], float(level)))
        start += count
    return tf.concat(logits, axis=1), tf.concat(rows, axis=1), tf.concat(levels, axis=0)


def _suppress_one(boxes: tf.Tensor, logits: tf.Tensor, spec: ProposalSpec) -> tuple[tf.Tensor, tf.Tensor]:
    """Of boxes that are sorted, best first."""
    # An int8 file gives many equal logits, among which runtimes choose differently unless their order is told.
    places = tf.range(ops.shape(logits)[0], 0, -1)
    return tf.raw_ops.NonMaxSuppressionV4(
        boxes=boxes,
        scores=tf.where(logits > _LEAST_LOGIT, tf.cast(places, tf.float32), _NEVER),
        max_output_size=spec.post_nms_top_k,
        iou_threshold=spec.iou_threshold,
        score_threshold=_LEAST_LOGIT,
        pad_to_max_output_size=True,
    )


def _suppress_batch(boxes: tf.Tensor, logits: tf.Tensor, spec: ProposalSpec) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.image.non_max_suppression_padded(
        boxes,
        logits,
        spec.post_nms_top_k,
        iou_threshold=spec.iou_threshold,
        score_threshold=_LEAST_LOGIT,
        pad_to_max_output_size=True,
        canonicalized_coordinates=True,
    )
