"""The region proposal network's outputs: their meaning, the proposals in them, and their losses (Ren et al. 2015)."""

from dataclasses import dataclass, field

import keras
import tensorflow as tf
from keras import ops

from keras_lightdet.base_model import global_sum
from keras_lightdet.boxes import (
    DeltaCoding,
    IoUAssigner,
    ProposalSpec,
    PyramidAnchors,
    SampleSpec,
    assign_anchors,
    propose,
    random_keys,
    sample_assignments,
)
from keras_lightdet.boxes.proposals import UNIT_CODING
from keras_lightdet.detection.losses import sigmoid_cross_entropy, smooth_l1
from keras_lightdet.spec import Spec


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class ProposalObjective(Spec):
    """What the outputs of a region proposal network mean, and how they are trained.

    Outputs are float32 `{"objectness" [B, N], "rpn_deltas" [B, N, 4]}` in the order of `PyramidAnchors.generate`.

    Attributes:
        anchors: The boxes that the outputs speak about.
        coding: Of the deltas.
        match: Which anchors are objects.
        sample: Anchors of an image that the losses count.
        train: How proposals are chosen in training.
        test: The same at inference.
        beta: Where the box loss turns from square to absolute.
        box_weight: Weight of the box loss.
    """

    anchors: PyramidAnchors
    coding: DeltaCoding = UNIT_CODING
    match: IoUAssigner = field(
        default_factory=lambda: IoUAssigner(0.7, 0.3, allow_low_quality=True, ignore_first=False)
    )
    sample: SampleSpec = field(default_factory=lambda: SampleSpec(256, 0.5))
    train: ProposalSpec = field(default_factory=lambda: ProposalSpec(2000, 2000))
    test: ProposalSpec = field(default_factory=lambda: ProposalSpec(1000, 1000))
    beta: float = 1 / 9
    box_weight: float = 1.0

    loss_names = ("objectness_loss", "rpn_box_loss")

    def propose(self, raw: dict, anchors: tf.Tensor, image_size, *, training: bool) -> dict:
        """Chooses proposals, see `boxes.propose`; `anchors [N, 4]` are those of `image_size` `(height, width)`."""
        return propose(
            raw["objectness"],
            raw["rpn_deltas"],
            anchors,
            image_size,
            self.train if training else self.test,
            coding=self.coding,
            level_counts=self.anchors.level_counts(image_size),
        )

    def compute_losses(self, raw: dict, targets: dict, anchors: tf.Tensor, seed: tf.Tensor) -> dict:
        """Computes the two losses over a random sample of anchors.

        Both are summed and divided by the number of sampled anchors in the batch of all replicas.

        Args:
            raw: The network's outputs.
            targets: See `DetectorModel`.
            anchors: `[N, 4]`, xyxy pixels.
            seed: Int `[2]`, of the sample.

        Returns:
            `{"objectness_loss", "rpn_box_loss"}`, float32 scalars, weighted.
        """
        matched = assign_anchors(anchors, targets["boxes"], targets["labels"], targets["ignore"], self.match)
        sample = sample_assignments(matched, random_keys(tf.shape(matched), seed), self.sample)
        rows, positive = sample["indices"], ops.cast(sample["positive"], "float32")
        counted = ops.cast(sample["valid"], "float32")
        logits = ops.take_along_axis(raw["objectness"], rows, axis=1)
        deltas = ops.take_along_axis(raw["rpn_deltas"], rows[..., None], axis=1)
        true_rows = ops.maximum(ops.take_along_axis(matched, rows, axis=1), 0)
        true_boxes = ops.take_along_axis(targets["boxes"], true_rows[..., None], axis=1)
        wanted = self.coding.encode(true_boxes, ops.take(ops.convert_to_tensor(anchors), rows, axis=0))
        box_terms = ops.sum(smooth_l1(wanted, deltas, beta=self.beta), axis=-1)
        scale = 1.0 / ops.maximum(global_sum(ops.sum(counted)), 1.0)
        return {
            "objectness_loss": scale * ops.sum(sigmoid_cross_entropy(positive, logits) * counted),
            "rpn_box_loss": self.box_weight * scale * ops.sum(ops.where(positive > 0, box_terms, 0.0)),
        }
