"""AnchorObjective: the meaning of the raw outputs of a dense anchor-based detector: decode and loss."""

from dataclasses import dataclass, field

import keras
from keras import ops

from keras_lightdet.base_model import global_sum
from keras_lightdet.boxes import BACKGROUND, DeltaCoding, IoUAssigner, PyramidAnchors, assign_anchors
from keras_lightdet.boxes.proposals import UNIT_CODING
from keras_lightdet.detection.anchor_placement import generate_anchors
from keras_lightdet.detection.losses import huber, sigmoid_focal_loss
from keras_lightdet.inference_stage import LOGIT_LIMITS
from keras_lightdet.spec import Spec
from keras_lightdet.types import DetectionTargets, DynamicSize, Tensor, Tensors


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class AnchorLoss(Spec):
    """Settings of the loss; the defaults are EfficientDet's.

    Attributes:
        focal_alpha: Weight of positive targets; negative ones have `1 - focal_alpha`.
        focal_gamma: Exponent that reduces the loss of easy anchors; 2 in RetinaNet.
        huber_delta: Error at which the box loss changes from quadratic to linear, in units of the deltas.
        box_weight: Weight of the box loss, a mean over the four deltas.
    """

    focal_alpha: float = 0.25
    focal_gamma: float = 1.5
    huber_delta: float = 0.1
    box_weight: float = 50.0


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class AnchorObjective(Spec):
    """Decoding and loss of a dense detector with anchors, as RetinaNet and EfficientDet (Lin et al. 2017, section 4).

    Raw outputs are float32 `{"box_deltas" [B, N, 4], "class_logits" [B, N, K]}` in the order of
    `PyramidAnchors.generate`: a sigmoid per class, none for the background.

    Attributes:
        anchors: Anchor generator.
        coding: Coding of the deltas.
        assigner: Label assignment. By default each object has its best anchor at any overlap, and an object inside a
            crowd keeps its anchors.
        loss: Weights of the losses.
    """

    anchors: PyramidAnchors
    coding: DeltaCoding = UNIT_CODING
    assigner: IoUAssigner = field(
        default_factory=lambda: IoUAssigner(0.5, 0.5, allow_low_quality=True, ignore_positives=False)
    )
    loss: AnchorLoss = field(default_factory=AnchorLoss)

    loss_names = ("box_loss", "class_loss")  # of `compute_losses`, float32 scalars

    def generate_anchors(self, image_size: DynamicSize) -> Tensor:
        """Returns the anchors `[N, 4]` (xyxy pixels) for images of `(height, width)`."""
        return generate_anchors(self.anchors, image_size)

    def decode_boxes(self, box_deltas: Tensor, anchors: Tensor) -> Tensor:
        """Returns boxes `[B, N, 4]` in xyxy pixels, which may leave the image."""
        return self.coding.decode(box_deltas, anchors)

    def decode_scores(self, raw: Tensors) -> Tensor:
        """Returns the probability of each class, `[B, N, K]`."""
        return ops.sigmoid(raw["class_logits"])

    def raw_limits(self) -> dict[str, tuple[float, float]]:
        """Returns the bounds beyond which raw values decode to nearly the same, by output."""
        return {"class_logits": LOGIT_LIMITS}

    def compute_losses(self, raw: Tensors, targets: DetectionTargets, anchors: Tensor) -> Tensors:
        """Computes the focal loss of all anchors that are not ignored and the Huber loss of the positive ones.

        Both are summed, weighted and divided by one more than the number of positive anchors in the batch of all
        replicas: a batch without objects then has a finite loss.

        Raises:
            ValueError: If the network does not predict for each anchor.
        """
        count, expected = raw["box_deltas"].shape[1], anchors.shape[0]
        if None not in (count, expected) and count != expected:
            raise ValueError(
                f"Expected predictions for {expected} anchors, got {count}. Predict on the maps of the anchors' "
                "strides, fine to coarse, with as many anchors per cell."
            )
        assigned = assign_anchors(anchors, targets["boxes"], targets["labels"], targets["ignore"], self.assigner)
        positive, rows = assigned >= 0, ops.maximum(assigned, 0)
        counted = ops.cast(assigned >= BACKGROUND, "float32")
        labels = ops.where(positive, ops.take_along_axis(targets["labels"], rows, axis=1), -1)

        logits = raw["class_logits"]
        classes = ops.one_hot(labels, logits.shape[-1], dtype="float32")  # zeros for -1
        loss = self.loss
        focal = sigmoid_focal_loss(classes, logits, alpha=loss.focal_alpha, gamma=loss.focal_gamma)

        true_boxes = ops.where(targets["labels"][..., None] >= 0, targets["boxes"], 0.0)
        true_deltas = self.coding.encode(ops.take_along_axis(true_boxes, rows[..., None], axis=1), anchors)
        box_terms = ops.mean(huber(true_deltas, raw["box_deltas"], delta=loss.huber_delta), axis=-1)
        scale = 1.0 / (global_sum(ops.sum(ops.cast(positive, "float32"))) + 1.0)
        return {
            "box_loss": loss.box_weight * scale * ops.sum(ops.where(positive, box_terms, 0.0)),
            "class_loss": scale * ops.sum(ops.sum(focal, axis=-1) * counted),
        }
