"""The second stage's outputs: their meaning, which regions they are trained on, and their losses (Girshick 2015)."""

from dataclasses import dataclass, field

import keras
import tensorflow as tf
from keras import ops

from keras_lightdet.base_model import global_sum
from keras_lightdet.boxes import (
    BACKGROUND,
    UNDECIDED,
    DeltaCoding,
    IoUAssigner,
    OhemSpec,
    SampleSpec,
    add_ground_truth_boxes,
    assign_anchors,
    ohem_mask,
    random_keys,
    sample_assignments,
)
from keras_lightdet.detection.losses import smooth_l1, softmax_cross_entropy
from keras_lightdet.spec import Spec


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class RegionObjective(Spec):
    """What the outputs for each region mean, and how they are trained.

    Outputs are float32 `{"class_logits" [B, R, K + 1], "box_deltas" [B, R, 4] or [B, R, K, 4]}`, background last; boxes
    are shared by the classes or one for each.

    Attributes:
        coding: Of the deltas.
        match: Which regions are objects.
        sample: Regions of an image that the losses count; all of the training's proposals take part in a `OhemSpec`,
            a `SampleSpec` draws some at random.
        beta: Where the box loss turns from square to absolute.
        box_weight: Weight of the box loss.
    """

    coding: DeltaCoding = field(default_factory=DeltaCoding)
    match: IoUAssigner = field(default_factory=lambda: IoUAssigner(0.5, 0.5, ignore_first=False))
    sample: SampleSpec | OhemSpec = field(default_factory=lambda: SampleSpec(512, 0.25))
    beta: float = 1.0
    box_weight: float = 1.0

    loss_names = ("class_loss", "box_loss")

    def draw_regions(self, proposals: dict, targets: dict, seed: tf.Tensor) -> dict:
        """Chooses the regions to train on, true boxes among them.

        Args:
            proposals: From `ProposalObjective.propose`.
            targets: See `DetectorModel`.
            seed: Int `[2]`, of a random sample.

        Returns:
            `{"rois" [B, S, 4], "matched" [B, S] int32 as of `assign_anchors`}`; slots in excess are undecided.
        """
        truth = targets["boxes"], targets["labels"], targets["ignore"]
        candidates = add_ground_truth_boxes(proposals, *truth)
        matched = assign_anchors(candidates["boxes"], *truth, self.match)
        matched = ops.where(candidates["valid"], matched, UNDECIDED)
        if isinstance(self.sample, OhemSpec):
            return {"rois": candidates["boxes"], "matched": matched}
        drawn = sample_assignments(matched, random_keys(tf.shape(matched), seed), self.sample)
        rows = drawn["indices"]
        return {
            "rois": ops.take_along_axis(candidates["boxes"], rows[..., None], axis=1),
            "matched": ops.where(drawn["valid"], ops.take_along_axis(matched, rows, axis=1), UNDECIDED),
        }

    def compute_losses(self, raw: dict, regions: dict, targets: dict) -> dict:
        """Computes both losses, summed and divided by the number of counted regions in the batch of all replicas.

        Args:
            raw: The second stage's outputs for the regions.
            regions: From `draw_regions`.
            targets: See `DetectorModel`.

        Returns:
            `{"class_loss", "box_loss"}`, float32 scalars, weighted.
        """
        matched, background = regions["matched"], raw["class_logits"].shape[-1] - 1
        positive, counted = matched >= 0, matched >= BACKGROUND
        rows = ops.maximum(matched, 0)
        true_labels = ops.take_along_axis(targets["labels"], rows, axis=1)
        labels = ops.cast(ops.where(positive, true_labels, background), "int32")
        class_terms = softmax_cross_entropy(labels, raw["class_logits"])
        true_boxes = ops.take_along_axis(targets["boxes"], rows[..., None], axis=1)
        wanted = self.coding.encode(true_boxes, regions["rois"])
        box_terms = ops.sum(smooth_l1(wanted, self._of_label(raw["box_deltas"], labels), beta=self.beta), axis=-1)
        box_terms = ops.where(positive, box_terms, 0.0)
        counted = ops.cast(counted, "float32")
        if isinstance(self.sample, OhemSpec):
            counted = ohem_mask(class_terms + box_terms, counted > 0, self.sample)
        scale = 1.0 / ops.maximum(global_sum(ops.sum(counted)), 1.0)
        return {
            "class_loss": scale * ops.sum(class_terms * counted),
            "box_loss": self.box_weight * scale * ops.sum(box_terms * counted),
        }

    def decode(self, raw: dict) -> tuple:
        """Returns boxes `[B, R, 4]` or `[B, R, K, 4]` (xyxy pixels that may leave the image), and scores `[B, R, K]`.

        `raw` has besides the second stage's outputs `"rois" [B, R, 4]` and `"valid" [B, R]` (1 or 0).
        """
        rois = raw["rois"] if len(raw["box_deltas"].shape) == 3 else raw["rois"][:, :, None]
        scores = ops.softmax(raw["class_logits"])[..., :-1] * raw["valid"][..., None]
        return self.coding.decode(raw["box_deltas"], rois), scores

    @staticmethod
    def _of_label(box_deltas, labels):
        """The deltas `[B, S, 4]` of each region's class."""
        if len(box_deltas.shape) == 3:
            return box_deltas
        rows = ops.minimum(labels, box_deltas.shape[2] - 1)[..., None, None]
        return ops.squeeze(ops.take_along_axis(box_deltas, rows, axis=2), 2)
