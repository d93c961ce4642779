"""OneStageDetector: one network whose dense outputs are the detections."""

from collections.abc import Mapping, Sequence

import keras
from keras import ops

from keras_lightdet.boxes import SelectSpec
from keras_lightdet.detection.anchor_objective import AnchorObjective
from keras_lightdet.detection.anchor_placement import size_of
from keras_lightdet.detection.grid_objective import GridObjective
from keras_lightdet.detection.model import DetectorModel
from keras_lightdet.inference_stage import InferenceStage


@keras.saving.register_keras_serializable("keras_lightdet")
class OneStageDetector(DetectorModel):
    """A network and the meaning of its outputs.

    Args:
        network: Functional model, images `[B, H, W, 3]` -> the raw outputs that `head` describes.
        head: Decoding and loss.
        class_names, input_size, select, architecture, name: See `DetectorModel`.
    """

    def __init__(
        self,
        network: keras.Model,
        head: GridObjective | AnchorObjective,
        *,
        class_names: Sequence[str],
        input_size: tuple[int, int],
        select: SelectSpec,
        architecture: Mapping | None = None,
        name: str | None = None,
    ):
        super().__init__(
            class_names=class_names,
            input_size=input_size,
            select=select,
            loss_names=head.loss_names,
            architecture=architecture,
            name=name,
        )
        self.network = network
        self.head = head
        self.built = True

    def networks(self, input_size: tuple[int, int] | None = None) -> list[tuple[keras.Model, list[tuple]]]:
        """Returns the one network, see `DetectorModel.networks`."""
        return [(self.network, [(*(input_size or self.input_size), 3)])]

    def class_layers(self) -> list[keras.layers.Layer]:
        """Returns the layers whose weights belong to the classes: all others serve any set of classes."""
        return [layer for layer in self.network.layers if layer.name.endswith("_class")]

    def call(self, images, training: bool = False) -> dict:
        """Returns the raw float32 outputs of `images` `[B, H, W, 3]`, 0..255."""
        raw = self.network(ops.cast(images, self.compute_dtype), training=training)
        return {key: ops.cast(value, "float32") for key, value in raw.items()}

    def compute_losses(self, images, targets: dict, training: bool) -> dict:
        """Computes the head's losses of a batch, see `DetectorModel.compute_losses`."""
        return self.head.compute_losses(
            self(images, training=training), targets, self.head.generate_anchors(size_of(images))
        )

    def decode(self, raw: dict) -> tuple:
        """Returns boxes `[B, N, 4]` (xyxy pixels, clipped to the input) and scores `[B, N, K]`, 0..1."""
        height, width = self.input_size
        boxes = self.head.decode_boxes(raw["box_deltas"], self.head.generate_anchors(self.input_size))
        boxes = ops.clip(boxes, 0.0, ops.convert_to_tensor([width, height, width, height], "float32"))
        return boxes, self.head.decode_scores(raw)

    def inference_stages(self) -> list[InferenceStage]:
        """Returns the one network as a stage, see `DetectorModel.inference_stages`."""
        return [
            InferenceStage("network", lambda given: self(given["images"]), ("images",), True, self.head.raw_limits()),
        ]

    def get_config(self) -> dict:
        """Returns the constructor's arguments, the network included."""
        return {
            **super().get_config(),
            "network": keras.saving.serialize_keras_object(self.network),
            "head": keras.saving.serialize_keras_object(self.head),
        }

    @classmethod
    def from_config(cls, config: dict) -> "OneStageDetector":
        """Rebuilds the network and the specs that `get_config` wrote."""
        config = dict(config)
        for key in ("network", "head", "select"):
            config[key] = keras.saving.deserialize_keras_object(config[key])
        return cls(**config)
