"""OneStageDetector: one network whose dense outputs are decoded to detections."""

from typing import Any

import keras
from keras import ops

from keras_lightdet.detection.anchor_objective import AnchorObjective
from keras_lightdet.detection.anchor_placement import image_size_of
from keras_lightdet.detection.grid_objective import GridObjective
from keras_lightdet.detection.model import DetectorModel
from keras_lightdet.inference_stage import InferenceStage
from keras_lightdet.types import DetectionTargets, Size, Tensor, Tensors


@keras.saving.register_keras_serializable("keras_lightdet")
class OneStageDetector(DetectorModel):
    """A detector of one network.

    Args:
        network: Functional model, images `[B, H, W, 3]` -> the raw outputs that `objective` describes.
        objective: The meaning of the raw outputs: decode and loss.
        **options: `class_names`, `input_size`, `select`, `architecture` and `name`; see `DetectorModel`.
    """

    config_objects = ("network", "objective", "select")

    def __init__(self, network: keras.Model, objective: GridObjective | AnchorObjective, **options: Any):
        super().__init__(loss_names=objective.loss_names, **options)
        self.network = network
        self.objective = objective
        self.built = True

    def networks(self, input_size: Size | None = None) -> list[tuple[keras.Model, list[tuple[int, ...]]]]:
        """Returns the network, see `BaseModel.networks`."""
        return [(self.network, [(*(input_size or self.input_size), 3)])]

    def call(self, images: Tensor, training: bool = False) -> Tensors:
        """Returns the raw float32 outputs for `images` `[B, H, W, 3]`, 0..255."""
        raw = self.network(ops.cast(images, self.compute_dtype), training=training)
        return {key: ops.cast(value, "float32") for key, value in raw.items()}

    def compute_losses(self, images: Tensor, targets: DetectionTargets, training: bool) -> Tensors:
        """Computes the objective's losses of a batch, see `BaseModel.compute_losses`."""
        anchors: Any = self.objective.generate_anchors(image_size_of(images))
        return self.objective.compute_losses(self(images, training=training), targets, anchors)

    def decode(self, raw: Tensors) -> tuple[Tensor, Tensor]:
        """Returns boxes `[B, N, 4]` (xyxy pixels, clipped to the input) and scores `[B, N, K]`, 0..1."""
        anchors: Any = self.objective.generate_anchors(self.input_size)
        boxes = self.objective.decode_boxes(raw["box_deltas"], anchors)
        return self._clip_to_input(boxes), self.objective.decode_scores(raw)

    def inference_stages(self) -> list[InferenceStage]:
        """Returns the network as one stage, see `BaseModel.inference_stages`."""
        limits = self.objective.raw_limits()
        return [InferenceStage("network", lambda tensors: self(tensors["images"]), ("images",), True, limits)]
