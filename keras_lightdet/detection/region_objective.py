"""RegionObjective: the meaning of the second stage's raw outputs: decode, sampling and loss (Girshick 2015)."""

from dataclasses import dataclass, field

import keras
import tensorflow as tf
from keras import ops

from keras_lightdet.base_model import global_sum
from keras_lightdet.boxes.assignment import BACKGROUND, IGNORED, IoUAssigner, assign_anchors
from keras_lightdet.boxes.coding import DeltaCoding
from keras_lightdet.boxes.proposals import Regions, add_ground_truth_boxes
from keras_lightdet.boxes.sampling import OhemSpec, SampleSpec, ohem_mask, random_keys, sample_assignments
from keras_lightdet.detection.losses import smooth_l1, softmax_cross_entropy
from keras_lightdet.spec import Spec
from keras_lightdet.types import DetectionTargets, Tensor, Tensors


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class RegionObjective(Spec):
    """Decoding and loss of the second stage.

    Raw outputs are float32 `{"class_logits" [B, R, K + 1], "box_deltas" [B, R, 4] or [B, R, K, 4]}`, background last;
    boxes are shared by the classes or one per class.

    Attributes:
        coding: Coding of the deltas.
        assigner: Label assignment of the regions.
        sample: Regions of an image that the losses count: an `OhemSpec` selects among all proposals by their loss, a
            `SampleSpec` draws at random.
        beta: See `smooth_l1`, the box loss.
        box_weight: Weight of the box loss.
    """

    coding: DeltaCoding = field(default_factory=DeltaCoding)
    assigner: IoUAssigner = field(default_factory=lambda: IoUAssigner(0.5, 0.5, ignore_positives=False))
    sample: SampleSpec | OhemSpec = field(default_factory=lambda: SampleSpec(512, 0.25))
    beta: float = 1.0
    box_weight: float = 1.0

    loss_names = ("class_loss", "box_loss")  # of `compute_losses`, float32 scalars

    def sample_regions(self, proposals: Regions, targets: DetectionTargets, seed: Tensor) -> Tensors:
        """Selects the regions to train on, ground-truth boxes among them; `seed` (int `[2]`) is that of the sample.

        Returns:
            `"rois"`, float32 `[B, S, 4]`, xyxy pixels, and `"assigned"`, int32 `[B, S]`, see `assign_anchors`;
            `IGNORED` in padding.
        """
        boxes, labels, ignore = targets["boxes"], targets["labels"], targets["ignore"]
        candidates = add_ground_truth_boxes(proposals, boxes, labels, ignore)
        assigned = assign_anchors(candidates["boxes"], boxes, labels, ignore, self.assigner)
        assigned = ops.where(candidates["valid"], assigned, IGNORED)
        if isinstance(self.sample, OhemSpec):
            return {"rois": candidates["boxes"], "assigned": assigned}
        sample = sample_assignments(assigned, random_keys(tf.shape(assigned), seed), self.sample)
        rows = sample["indices"]
        return {
            "rois": ops.take_along_axis(candidates["boxes"], rows[..., None], axis=1),
            "assigned": ops.where(sample["valid"], ops.take_along_axis(assigned, rows, axis=1), IGNORED),
        }

    def compute_losses(self, raw: Tensors, regions: Tensors, targets: DetectionTargets) -> Tensors:
        """Computes both losses of the outputs `raw` for the `regions` that `sample_regions` returned.

        They are summed, weighted and divided by the number of counted regions in the batch of all replicas.
        """
        assigned, background = regions["assigned"], raw["class_logits"].shape[-1] - 1
        positive, counted = assigned >= 0, assigned >= BACKGROUND
        rows = ops.maximum(assigned, 0)
        true_labels = ops.take_along_axis(targets["labels"], rows, axis=1)
        labels = ops.cast(ops.where(positive, true_labels, background), "int32")
        class_terms = softmax_cross_entropy(labels, raw["class_logits"])
        true_boxes = ops.take_along_axis(targets["boxes"], rows[..., None], axis=1)
        true_deltas = self.coding.encode(true_boxes, regions["rois"])
        deltas = _deltas_of_class(raw["box_deltas"], labels)
        box_terms = ops.sum(smooth_l1(true_deltas, deltas, beta=self.beta), axis=-1)
        box_terms = ops.where(positive, box_terms, 0.0)
        counted = ops.cast(counted, "float32")
        if isinstance(self.sample, OhemSpec):
            counted = ohem_mask(class_terms + box_terms, counted > 0, self.sample)
        scale = 1.0 / ops.maximum(global_sum(ops.sum(counted)), 1.0)
        return {
            "class_loss": scale * ops.sum(class_terms * counted),
            "box_loss": self.box_weight * scale * ops.sum(box_terms * counted),
        }

    def decode(self, raw: Tensors) -> tuple[Tensor, Tensor]:
        """Returns boxes `[B, R, 4]` or `[B, R, K, 4]` (xyxy pixels that may leave the image), and scores `[B, R, K]`.

        `raw` holds, besides the second stage's outputs, `"rois" [B, R, 4]` and `"valid" [B, R]` (1 or 0).
        """
        rois = raw["rois"] if len(raw["box_deltas"].shape) == 3 else raw["rois"][:, :, None]
        scores = ops.softmax(raw["class_logits"])[..., :-1] * raw["valid"][..., None]
        return self.coding.decode(raw["box_deltas"], rois), scores


def _deltas_of_class(box_deltas: Tensor, labels: Tensor) -> Tensor:
    """Returns the deltas `[B, S, 4]` of each region's class."""
    if len(box_deltas.shape) == 3:
        return box_deltas
    rows = ops.minimum(labels, box_deltas.shape[2] - 1)[..., None, None]
    return ops.squeeze(ops.take_along_axis(box_deltas, rows, axis=2), 2)
