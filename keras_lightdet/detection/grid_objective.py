"""GridObjective: the meaning of the raw outputs of a grid detector (YOLOv3): decode and loss."""

from dataclasses import dataclass, field

import keras
from keras import ops

from keras_lightdet.base_model import global_sum
from keras_lightdet.boxes import AnchorGrid, GridAnchors, GridAssigner, GridCoding, assign_grid_anchors
from keras_lightdet.boxes.overlap import iou, pairwise_fraction_inside, pairwise_iou
from keras_lightdet.detection.anchor_placement import generate_grid_anchors
from keras_lightdet.detection.losses import sigmoid_cross_entropy
from keras_lightdet.inference_stage import LOGIT_LIMITS
from keras_lightdet.spec import Spec
from keras_lightdet.types import DetectionTargets, DynamicSize, Tensor, Tensors

# The center is within 0.005 of the end of its range there, and the sides are clipped.
_DELTA_LIMITS = (-6.0, 6.0)


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class GridLoss(Spec):
    """Settings of the loss.

    Attributes:
        box_kind: The box loss is 1 minus this overlap: "iou", "giou", "diou" or "ciou".
        box_weight: Weight of the box loss.
        objectness_weight: Weight of the objectness loss.
        class_weight: Weight of the class loss.
        focal_gamma: Exponent of `|target - objectness|`, which reduces the loss of the many easy anchors.
        ignore_iou: An anchor without a box whose prediction overlaps a ground-truth box (or lies inside one to ignore)
            by more than this is not a negative.
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
    """Decoding and loss of a grid detector.

    Raw outputs are float32 `{"box_deltas" [B, N, 4], "objectness" [B, N], "class_logits" [B, N, K]}` in the order of
    `GridAnchors.generate`.

    Attributes:
        anchors: Anchor generator.
        coding: Coding of the deltas.
        assigner: Label assignment.
        loss: Weights of the losses.
    """

    anchors: GridAnchors
    coding: GridCoding = field(default_factory=GridCoding)
    assigner: GridAssigner = field(default_factory=GridAssigner)
    loss: GridLoss = field(default_factory=GridLoss)

    loss_names = ("box_loss", "objectness_loss", "class_loss")  # of `compute_losses`, float32 scalars

    def generate_anchors(self, image_size: DynamicSize) -> AnchorGrid:
        """Returns the anchors for images of `(height, width)`."""
        return generate_grid_anchors(self.anchors, image_size)

    def decode_boxes(self, box_deltas: Tensor, anchors: AnchorGrid) -> Tensor:
        """Returns boxes `[B, N, 4]` in xyxy pixels, which may leave the image."""
        return self.coding.decode(box_deltas, anchors.centers, anchors.sizes, anchors.strides)

    def decode_scores(self, raw: Tensors) -> Tensor:
        """Returns `[B, N, K]`: objectness times the probability of each class."""
        return ops.sigmoid(raw["objectness"])[..., None] * ops.sigmoid(raw["class_logits"])

    def raw_limits(self) -> dict[str, tuple[float, float]]:
        """Returns the bounds beyond which raw values decode to nearly the same, by output."""
        return {"box_deltas": _DELTA_LIMITS, "objectness": LOGIT_LIMITS, "class_logits": LOGIT_LIMITS}

    def compute_losses(self, raw: Tensors, targets: DetectionTargets, anchors: AnchorGrid) -> Tensors:
        """Computes the loss of YOLOv3 with an IoU-based box term.

        Each term is summed, weighted and divided by the number of positive anchors in the batch of all replicas.
        """
        is_box = targets["labels"] >= 0
        ignore = ops.logical_and(is_box, ops.cast(targets["ignore"], "bool"))
        real = ops.logical_and(is_box, ops.logical_not(ignore))
        true_boxes = ops.where(ops.expand_dims(is_box, -1), targets["boxes"], 0.0)
        shape_sizes = ops.reshape(ops.convert_to_tensor(self.anchors.sizes, "float32"), (-1, 2))
        assigned = assign_grid_anchors(
            anchors.centers, anchors.strides, anchors.shapes, shape_sizes, true_boxes, real, self.assigner
        )
        positive = ops.cast(assigned >= 0, "float32")
        index = ops.maximum(assigned, 0)
        boxes = self.decode_boxes(raw["box_deltas"], anchors)
        overlap = iou(boxes, ops.take_along_axis(true_boxes, index[..., None], axis=1), self.loss.box_kind)

        quality = ops.clip(ops.stop_gradient(overlap), 0.0, 1.0) * positive
        ignored = self._ignored(ops.stop_gradient(boxes), true_boxes, real, ignore)
        counted = ops.maximum(positive, 1.0 - ignored)
        objectness_term = _quality_focal_loss(quality, raw["objectness"], self.loss.focal_gamma)

        true_labels = ops.take_along_axis(ops.maximum(targets["labels"], 0), index, axis=1)
        logits = raw["class_logits"]
        classes = ops.one_hot(true_labels, logits.shape[-1], dtype="float32")
        class_term = ops.sum(sigmoid_cross_entropy(classes, logits), axis=-1)
        scale = 1.0 / ops.maximum(global_sum(ops.sum(positive)), 1.0)
        return {
            "box_loss": self.loss.box_weight * scale * ops.sum((1.0 - overlap) * positive),
            "objectness_loss": self.loss.objectness_weight * scale * ops.sum(objectness_term * counted),
            "class_loss": self.loss.class_weight * scale * ops.sum(class_term * positive),
        }

    def _ignored(self, boxes: Tensor, true_boxes: Tensor, real: Tensor, ignore: Tensor) -> Tensor:
        """Marks (`[B, N]`, 1.0) predictions that overlap an object, or a box to ignore, too much for a negative."""
        overlap = ops.where(ops.expand_dims(real, 1), pairwise_iou(boxes, true_boxes), 0.0)
        inside = ops.where(ops.expand_dims(ignore, 1), pairwise_fraction_inside(boxes, true_boxes), 0.0)
        return ops.cast(ops.max(ops.maximum(overlap, inside), axis=-1) > self.loss.ignore_iou, "float32")


def _quality_focal_loss(targets: Tensor, logits: Tensor, gamma: float) -> Tensor:
    """Computes `|y - p|^gamma` times the cross-entropy (quality focal loss, Li et al. 2020, eq. 2)."""
    return ops.power(ops.abs(targets - ops.sigmoid(logits)), gamma) * sigmoid_cross_entropy(targets, logits)
