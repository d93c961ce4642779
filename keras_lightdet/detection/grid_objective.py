"""The grid prediction of YOLOv3-style detectors: decoding and loss of boxes, objectness and classes at every anchor."""

from dataclasses import dataclass, field

import keras
import tensorflow as tf
from keras import ops

from keras_lightdet.base_model import global_sum
from keras_lightdet.boxes import (
    AnchorGrid,
    GridAnchors,
    GridAssigner,
    GridCoding,
    assign_grid_anchors,
    iou,
    pairwise_intersection,
    pairwise_iou,
)
from keras_lightdet.boxes.overlap import box_area
from keras_lightdet.detection.anchor_placement import is_known
from keras_lightdet.detection.losses import sigmoid_cross_entropy
from keras_lightdet.spec import Spec

# Sigmoids are within 0.0004 of their ends there, under any threshold of scores.
_LOGIT_LIMITS = (-8.0, 8.0)
# The center is within half a hundredth of its window's end there, and the sides are clipped.
_DELTA_LIMITS = (-6.0, 6.0)


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class GridLoss(Spec):
    """Numbers of the grid loss.

    Attributes:
        box_kind: Overlap whose complement is the box loss: "iou", "giou", "diou" or "ciou".
        box_weight: Weight of the box loss.
        objectness_weight: Weight of the objectness loss.
        class_weight: Weight of the class loss.
        focal_gamma: Exponent of `|target - objectness|`, which quiets the many easy anchors.
        ignore_iou: An unmatched anchor whose box overlaps a true box (or lies inside one to ignore) by more than
            this is no negative.
    """

    box_kind: str = "ciou"
    box_weight: float = 5.0
    objectness_weight: float = 1.0
    class_weight: float = 1.0
    focal_gamma: float = 2.0
    ignore_iou: float = 0.7


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class GridObjective(Spec):
    """What a grid detector's raw outputs mean, and how they are trained.

    Raw outputs are float32 `{"box_deltas" [B, N, 4], "objectness" [B, N], "class_logits" [B, N, K]}` in the order of
    `GridAnchors.generate`.
    """

    anchors: GridAnchors
    coding: GridCoding = field(default_factory=GridCoding)
    match: GridAssigner = field(default_factory=GridAssigner)
    loss: GridLoss = field(default_factory=GridLoss)

    loss_names = ("box_loss", "objectness_loss", "class_loss")

    def generate_anchors(self, image_size: tuple) -> AnchorGrid:
        """Lays the anchors over images of `(height, width)`, numbers or tensors."""
        if is_known(image_size):
            return self.anchors.generate(image_size)
        # Batches of changing size (multi-scale training): the anchors come from NumPy at each step.
        kinds = [tf.float32, tf.float32, tf.float32, tf.int32]
        parts = tf.numpy_function(self._anchor_arrays, [tf.stack(image_size)], kinds)
        shapes = ([None, 2], [None, 2], [None], [None])
        return AnchorGrid(*(tf.ensure_shape(part, shape) for part, shape in zip(parts, shapes, strict=True)))

    def decode_boxes(self, box_deltas, placed: AnchorGrid):
        """Returns boxes `[B, N, 4]` in xyxy pixels, which may leave the image."""
        return self.coding.decode(box_deltas, placed.centers, placed.sizes, placed.strides)

    def decode_scores(self, raw: dict):
        """Returns `[B, N, K]`: the probability of an object times that of each class, given one."""
        return ops.sigmoid(raw["objectness"])[..., None] * ops.sigmoid(raw["class_logits"])

    def raw_limits(self) -> dict[str, tuple[float, float]]:
        """Returns the ends beyond which raw values decode to nearly the same, by output."""
        return {"box_deltas": _DELTA_LIMITS, "objectness": _LOGIT_LIMITS, "class_logits": _LOGIT_LIMITS}

    def compute_losses(self, raw: dict, targets: dict, placed: AnchorGrid) -> dict:
        """Computes the loss of YOLOv3 with an IoU-family box term.

        Every term is summed over anchors and divided by the number of matched anchors in the batch of all replicas.

        Args:
            raw: The network's outputs.
            targets: See `DetectorModel`.
            placed: The anchors laid over the batch's images.

        Returns:
            `{"box_loss", "objectness_loss", "class_loss"}`, float32 scalars, weighted.
        """
        ignore = ops.logical_and(targets["labels"] >= 0, ops.cast(targets["ignore"], "bool"))
        real = ops.logical_and(targets["labels"] >= 0, ops.logical_not(ignore))
        true_boxes = ops.where(ops.expand_dims(targets["labels"] >= 0, -1), targets["boxes"], 0.0)
        shape_sizes = ops.reshape(ops.convert_to_tensor(self.anchors.sizes, "float32"), (-1, 2))
        matched = assign_grid_anchors(
            placed.centers, placed.strides, placed.shapes, shape_sizes, true_boxes, real, self.match
        )
        positive = ops.cast(matched >= 0, "float32")
        index = ops.maximum(matched, 0)
        boxes = self.decode_boxes(raw["box_deltas"], placed)
        overlap = iou(boxes, ops.take_along_axis(true_boxes, index[..., None], axis=1), self.loss.box_kind)

        still = ops.stop_gradient(boxes)
        quality = ops.clip(ops.stop_gradient(overlap), 0.0, 1.0) * positive
        counted = ops.maximum(positive, 1.0 - self._undecided(still, true_boxes, real, ignore))
        objectness_term = _focal_cross_entropy(quality, raw["objectness"], self.loss.focal_gamma)

        true_labels = ops.take_along_axis(ops.maximum(targets["labels"], 0), index, axis=1)
        logits = raw["class_logits"]
        class_term = ops.sum(
            sigmoid_cross_entropy(ops.one_hot(true_labels, logits.shape[-1], dtype="float32"), logits), axis=-1
        )
        scale = 1.0 / ops.maximum(global_sum(ops.sum(positive)), 1.0)
        return {
            "box_loss": self.loss.box_weight * scale * ops.sum((1.0 - overlap) * positive),
            "objectness_loss": self.loss.objectness_weight * scale * ops.sum(objectness_term * counted),
            "class_loss": self.loss.class_weight * scale * ops.sum(class_term * positive),
        }

    def _anchor_arrays(self, image_size) -> tuple:
        placed = self.anchors.generate(tuple(image_size))
        return placed.centers, placed.sizes, placed.strides, placed.shapes

    def _undecided(self, boxes, true_boxes, real, ignore):
        """Marks (`[B, N]`, 1.0) anchors that overlap an object, or lie in a box to ignore, too far to be negatives."""
        overlap = ops.where(ops.expand_dims(real, 1), pairwise_iou(boxes, true_boxes), 0.0)
        inside = pairwise_intersection(boxes, true_boxes) / ops.maximum(ops.expand_dims(box_area(boxes), -1), 1e-6)
        inside = ops.where(ops.expand_dims(ignore, 1), inside, 0.0)
        return ops.cast(ops.max(ops.maximum(overlap, inside), axis=-1) > self.loss.ignore_iou, "float32")


def _focal_cross_entropy(targets, logits, gamma: float):
    """`|y - p|^gamma` times the cross-entropy (quality focal loss, Li et al. 2020, eq. 2)."""
    return ops.power(ops.abs(targets - ops.sigmoid(logits)), gamma) * sigmoid_cross_entropy(targets, logits)
