"""Nearest-neighbour enlargement by ops that a phone's runtimes take."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("keras_lightdet")
class Enlarge(keras.layers.UpSampling2D):
    """Repeats every pixel of `[B, H, W, C]` along both sides.

    The numbers are those of `UpSampling2D`, whose TILE splits a .tflite between TFLite's CPU delegate and its slow
    kernels: EfficientDet-Lite0 came in 25 parts, and comes in one so. Training keeps its ops.

    Args:
        factor: Repeats of a pixel, a power of two.
        name: Name of the layer.

    Raises:
        ValueError: If the factor is no power of two.
    """

    def __init__(self, factor: int = 2, *, name: str | None = None, **options):
        if factor < 1 or factor & (factor - 1):
            raise ValueError(f"Expected factor to be a power of two, got {factor!r}.")
        super().__init__(factor, name=name, **options)
        self.factor = factor

    def call(self, inputs, training: bool = False):
        """Returns `[B, factor * H, factor * W, C]`."""
        if training:
            return super().call(inputs)
        for _ in range(self.factor.bit_length() - 1):  # the delegate joins no more than five maps at once
            inputs = tf.nn.depth_to_space(tf.concat([inputs] * 4, axis=-1), 2)
        return inputs

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        config = super().get_config()
        return {"factor": self.factor, **{key: config[key] for key in ("name", "dtype", "trainable")}}
