"""ProposalObjective: the meaning of a region proposal network's raw outputs: proposals and loss (Ren et al. 2015)."""

from dataclasses import dataclass, field

import keras
import tensorflow as tf
from keras import ops

from keras_lightdet.base_model import global_sum
from keras_lightdet.boxes.anchors import PyramidAnchors
from keras_lightdet.boxes.assignment import IoUAssigner, assign_anchors
from keras_lightdet.boxes.coding import DeltaCoding
from keras_lightdet.boxes.proposals import UNIT_CODING, Proposals, ProposalSpec, propose
from keras_lightdet.boxes.sampling import SampleSpec, random_keys, sample_assignments
from keras_lightdet.detection.losses import sigmoid_cross_entropy, smooth_l1
from keras_lightdet.spec import Spec
from keras_lightdet.types import DetectionTargets, DynamicSize, Tensor, Tensors


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class ProposalObjective(Spec):
    """Proposals and loss of a region proposal network.

    Raw outputs are float32 `{"objectness" [B, N], "rpn_deltas" [B, N, 4]}` in the order of `PyramidAnchors.generate`.

    Attributes:
        anchors: Anchor generator.
        coding: Coding of the deltas.
        assigner: Label assignment.
        sample: Anchors of an image that the losses count.
        train: Selection of proposals in training.
        test: Selection of proposals at inference.
        beta: See `smooth_l1`, the box loss.
        box_weight: Weight of the box loss.
    """

    anchors: PyramidAnchors
    coding: DeltaCoding = UNIT_CODING
    assigner: IoUAssigner = field(
        default_factory=lambda: IoUAssigner(0.7, 0.3, allow_low_quality=True, ignore_positives=False)
    )
    sample: SampleSpec = field(default_factory=lambda: SampleSpec(256, 0.5))
    train: ProposalSpec = field(default_factory=lambda: ProposalSpec(2000, 2000))
    test: ProposalSpec = field(default_factory=lambda: ProposalSpec(1000, 1000))
    beta: float = 1 / 9
    box_weight: float = 1.0

    loss_names = ("objectness_loss", "rpn_box_loss")  # of `compute_losses`, float32 scalars

    def propose(self, raw: Tensors, anchors: Tensor, image_size: DynamicSize, *, training: bool) -> Proposals:
        """Selects proposals, see `boxes.propose`; `anchors [N, 4]` are those for `image_size` `(height, width)`."""
        return propose(
            raw["objectness"],
            raw["rpn_deltas"],
            anchors,
            image_size,
            self.train if training else self.test,
            coding=self.coding,
            level_counts=self.anchors.level_counts(image_size),
        )

    def compute_losses(self, raw: Tensors, targets: DetectionTargets, anchors: Tensor, seed: Tensor) -> Tensors:
        """Computes the two losses over a random sample of anchors.

        Both are summed, weighted and divided by the number of sampled anchors in the batch of all replicas. `seed`
        (int `[2]`) is that of the sample.
        """
        assigned = assign_anchors(anchors, targets["boxes"], targets["labels"], targets["ignore"], self.assigner)
        sample = sample_assignments(assigned, random_keys(tf.shape(assigned), seed), self.sample)
        rows, positive = sample["indices"], ops.cast(sample["positive"], "float32")
        counted = ops.cast(sample["valid"], "float32")
        logits = ops.take_along_axis(raw["objectness"], rows, axis=1)
        deltas = ops.take_along_axis(raw["rpn_deltas"], rows[..., None], axis=1)
        true_rows = ops.maximum(ops.take_along_axis(assigned, rows, axis=1), 0)
        true_boxes = ops.take_along_axis(targets["boxes"], true_rows[..., None], axis=1)
        true_deltas = self.coding.encode(true_boxes, ops.take(ops.convert_to_tensor(anchors), rows, axis=0))
        box_terms = ops.sum(smooth_l1(true_deltas, deltas, beta=self.beta), axis=-1)
        scale = 1.0 / ops.maximum(global_sum(ops.sum(counted)), 1.0)
        return {
            "objectness_loss": scale * ops.sum(sigmoid_cross_entropy(positive, logits) * counted),
            "rpn_box_loss": self.box_weight * scale * ops.sum(ops.where(positive > 0, box_terms, 0.0)),
        }
