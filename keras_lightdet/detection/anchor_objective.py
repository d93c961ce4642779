"""Dense prediction at the anchors of a pyramid, as in RetinaNet and EfficientDet: decoding and loss."""

from dataclasses import dataclass, field

import keras
from keras import ops

from keras_lightdet.base_model import global_sum
from keras_lightdet.boxes import BACKGROUND, DeltaCoding, IoUAssigner, PyramidAnchors, assign_anchors
from keras_lightdet.boxes.proposals import UNIT_CODING
from keras_lightdet.detection.anchor_placement import generate_anchors
from keras_lightdet.detection.losses import huber, sigmoid_focal_loss
from keras_lightdet.spec import Spec

# Sigmoids are within 0.0004 of their ends there, under any threshold of scores.
_LOGIT_LIMITS = (-8.0, 8.0)


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class AnchorLoss(Spec):
    """Numbers of the loss of dense anchors; the defaults are EfficientDet's.

    Attributes:
        focal_alpha: Weight of the objects' class against the background's `1 - focal_alpha`.
        focal_gamma: Exponent that quiets easy anchors; 2 in RetinaNet.
        huber_delta: Where the box loss turns from square to linear, in units of the deltas.
        box_weight: Weight of the box loss, a mean over the four deltas.
    """

    focal_alpha: float = 0.25
    focal_gamma: float = 1.5
    huber_delta: float = 0.1
    box_weight: float = 50.0


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class AnchorObjective(Spec):
    """What the outputs of a dense detector mean, and how they are trained (Lin et al. 2017, section 4).

    Raw outputs are float32 `{"box_deltas" [B, N, 4], "class_logits" [B, N, K]}` in the order of
    `PyramidAnchors.generate`: a sigmoid for each class and none for the background.

    Attributes:
        anchors: The boxes that the outputs speak about.
        coding: Of the deltas.
        match: Which anchors are objects. By default each object has its best anchor whatever the overlap, and an
            object inside a crowd keeps its anchors.
        loss: Weights of the losses.
    """

    anchors: PyramidAnchors
    coding: DeltaCoding = UNIT_CODING
    match: IoUAssigner = field(
        default_factory=lambda: IoUAssigner(0.5, 0.5, allow_low_quality=True, ignore_first=False)
    )
    loss: AnchorLoss = field(default_factory=AnchorLoss)

    loss_names = ("box_loss", "class_loss")

    def generate_anchors(self, image_size: tuple):
        """Returns the anchors `[N, 4]` (xyxy pixels) of images of `(height, width)`, see `generate_anchors`."""
        return generate_anchors(self.anchors, image_size)

    def decode_boxes(self, box_deltas, placed):
        """Returns boxes `[B, N, 4]` in xyxy pixels, which may leave the image."""
        return self.coding.decode(box_deltas, placed)

    def decode_scores(self, raw: dict):
        """Returns the probability of each class, `[B, N, K]`."""
        return ops.sigmoid(raw["class_logits"])

    def raw_limits(self) -> dict[str, tuple[float, float]]:
        """Returns the ends beyond which raw values decode to nearly the same, by output."""
        return {"class_logits": _LOGIT_LIMITS}

    def compute_losses(self, raw: dict, targets: dict, placed) -> dict:
        """Computes the focal loss of all decided anchors and the Huber loss of the positive ones.

        Both are summed and divided by one more than the number of positive anchors in the batch of all replicas: a
        batch without objects then has a finite loss.

        Args:
            raw: The network's outputs.
            targets: See `DetectorModel`.
            placed: `[N, 4]`, xyxy pixels.

        Returns:
            `{"box_loss", "class_loss"}`, float32 scalars, weighted.
        """
        matched = assign_anchors(placed, targets["boxes"], targets["labels"], targets["ignore"], self.match)
        positive, rows = matched >= 0, ops.maximum(matched, 0)
        decided = ops.cast(matched >= BACKGROUND, "float32")
        labels = ops.where(positive, ops.take_along_axis(targets["labels"], rows, axis=1), -1)

        logits = raw["class_logits"]
        classes = ops.one_hot(labels, logits.shape[-1], dtype="float32")  # zeros for -1
        loss = self.loss
        focal = sigmoid_focal_loss(classes, logits, alpha=loss.focal_alpha, gamma=loss.focal_gamma)

        true_boxes = ops.where(targets["labels"][..., None] >= 0, targets["boxes"], 0.0)
        wanted = self.coding.encode(ops.take_along_axis(true_boxes, rows[..., None], axis=1), placed)
        box_terms = ops.mean(huber(wanted, raw["box_deltas"], delta=loss.huber_delta), axis=-1)
        scale = 1.0 / (global_sum(ops.sum(ops.cast(positive, "float32"))) + 1.0)
        return {
            "box_loss": loss.box_weight * scale * ops.sum(ops.where(positive, box_terms, 0.0)),
            "class_loss": scale * ops.sum(ops.sum(focal, axis=-1) * decided),
        }
