"""SegmentationModel: a network that predicts the class of each pixel, its training and inference."""

from collections.abc import Sequence
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from keras_lightdet.base_model import BaseModel
from keras_lightdet.images import ImageInput, for_each_image, resize_image
from keras_lightdet.inference_stage import InferenceStage
from keras_lightdet.layers import resize_maps
from keras_lightdet.segmentation.loss import SegmentationLoss, pixel_loss
from keras_lightdet.types import Config, SegmentationTargets, Size, Tensor, Tensors

MAIN = "logits"


def predict_pixels(x: keras.KerasTensor, num_classes: int, *, name: str) -> keras.KerasTensor:
    """Adds the 1x1 convolution that predicts logits, `[B, H, W, C]` -> float32 `[B, H, W, num_classes]`."""
    return layers.Conv2D(num_classes, 1, dtype="float32", name=f"{name}_class")(x)


@keras.saving.register_keras_serializable("keras_lightdet")
class SegmentationModel(BaseModel):
    """A segmenter that trains with stock `compile` and `fit` and labels pixels with `segment`.

    Data for `fit` are pairs of images `[B, H, W, 3]` (0..255, RGB, of any size) and `SegmentationTargets`.

    Args:
        network: Functional model, images `[B, H, W, 3]` -> `{"logits" [B, h, w, num_classes], ..}`; further outputs are
            the logits of auxiliary heads, which are used in training only.
        loss: Settings of the loss; `None` = the defaults.
        **options: `class_names`, `input_size`, `architecture` and `name`; see `BaseModel`.

    Raises:
        ValueError: If `loss` has another number of class weights than there are classes.
    """

    config_objects = ("network",)

    def __init__(self, network: keras.Model, *, loss: SegmentationLoss | None = None, **options: Any):
        super().__init__(loss_names=[_loss_name(output) for output in network.output], **options)
        self.network = network
        self.loss_spec = loss or SegmentationLoss()
        weights = self.loss_spec.class_weights
        if weights is not None and len(weights) != self.num_classes:
            raise ValueError(f"Expected {self.num_classes} class_weights, got {len(weights)}. Pass one per class.")
        self.built = True

    def networks(self, input_size: Size | None = None) -> list[tuple[keras.Model, list[tuple[int, ...]]]]:
        """Returns the network without its auxiliary heads, see `BaseModel.networks`."""
        network = keras.Model(self.network.input, self.network.output[MAIN], name=self.network.name)
        return [(network, [(*(input_size or self.input_size), 3)])]

    def call(self, images: Tensor, training: bool = False) -> Tensors:
        """Returns `{"logits" [B, h, w, num_classes]}`, float32, for `images` `[B, H, W, 3]`, 0..255."""
        return {MAIN: self._run(images, training)[MAIN]}

    def compute_losses(self, images: Tensor, targets: SegmentationTargets, training: bool) -> Tensors:
        """Computes the loss of each head, see `BaseModel.compute_losses`."""
        losses = {}
        for output, logits in self._run(images, training).items():
            weight = 1.0 if output == MAIN else self.loss_spec.auxiliary_weight
            losses[_loss_name(output)] = weight * pixel_loss(logits, targets["labels"], self.loss_spec)
        return losses

    def predict_step(self, data: Any) -> Tensor:
        """Returns the logits of a batch at the stride of the network, see `call`."""
        images, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return self(images, training=False)[MAIN]

    def segment(self, images: ImageInput | Sequence[ImageInput]) -> np.ndarray | list[np.ndarray]:
        """Predicts the class of each pixel in images of any size.

        Args:
            images: An image or a list of images: paths, Pillow images, or arrays `[H, W, 3]` of 0..255 RGB.

        Returns:
            Labels, uint8 `[H, W]` of the image's size (EXIF orientation applied), or a list of them for a list.

        Raises:
            DataError: If a file cannot be read as an image, or an array is not an image.
        """
        return for_each_image(images, self._segment_image)

    def _segment_image(self, pixels: np.ndarray) -> np.ndarray:
        logits = self.predict_on_batch(resize_image(pixels, self.input_size)[None])
        return to_labels(logits[0], cast(Size, pixels.shape[:2]))

    def inference_stages(self) -> list[InferenceStage]:
        """Returns the network as one stage, see `BaseModel.inference_stages`."""
        return [InferenceStage("network", lambda tensors: self(tensors["images"]), ("images",), True)]

    def get_config(self) -> Config:
        """Returns the constructor's arguments in the form Keras saves."""
        return {**super().get_config(), "loss": keras.saving.serialize_keras_object(self.loss_spec)}

    def _run(self, images: Tensor, training: bool) -> Tensors:
        raw = self.network(ops.cast(images, self.compute_dtype), training=training)
        return {output: ops.cast(logits, "float32") for output, logits in raw.items()}


def to_labels(logits: Tensor | np.ndarray, size: Size) -> np.ndarray:
    """Converts one image's logits `[h, w, K]` to labels, uint8 `[*size]`: resizes, then takes the best class."""
    resized = resize_maps(tf.convert_to_tensor(logits)[None], size)
    return tf.cast(tf.argmax(resized[0], axis=-1), tf.uint8).numpy()


def _loss_name(output: str) -> str:
    return "main_loss" if output == MAIN else f"{output}_loss"
