"""Normalization of the channels of images."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_lightdet.types import Config, Tensor


@keras.saving.register_keras_serializable("keras_lightdet")
class NormalizeImages(keras.layers.Layer):
    """Computes `x * scale + offset` with a scale and an offset for each channel of `[B, H, W, C]`.

    Keras' `Rescaling` computes the same over a last axis of three values, which is slow on CPUs: 0.8 of the 3 ms that
    SNet49 took in a .tflite at 320 pixels. This layer computes over whole rows of the image.
    """

    def __init__(self, scale: Sequence[float], offset: Sequence[float], **kwargs: Any):
        super().__init__(**kwargs)
        self.scale, self.offset = tuple(scale), tuple(offset)

    def call(self, inputs: Tensor) -> Tensor:
        """Returns `[B, H, W, C]` of the layer's compute dtype."""
        _, height, width, channels = ops.shape(inputs)
        scale, offset = (
            ops.tile(ops.convert_to_tensor(values, self.compute_dtype), (width,))
            for values in (self.scale, self.offset)
        )
        rows = ops.reshape(ops.cast(inputs, self.compute_dtype), (-1, height, width * channels))
        return ops.reshape(rows * scale + offset, (-1, height, width, channels))

    def compute_output_spec(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """Returns the shape of the inputs."""
        return keras.KerasTensor(inputs.shape, self.compute_dtype)

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "scale": list(self.scale), "offset": list(self.offset)}
