"""Resizes feature maps: by a power of two, or to the size of another map."""

from typing import Any

import keras
import tensorflow as tf

from keras_lightdet.types import Config, Size, Tensor


@keras.saving.register_keras_serializable("keras_lightdet")
class NearestUpsample2D(keras.layers.UpSampling2D):
    """Nearest-neighbor upsampling of `[B, H, W, C]` by ops that TFLite's delegates support.

    The values are those of `UpSampling2D`. Its TILE op is not supported by TFLite's CPU delegate and split
    EfficientDet-Lite0 into 25 partitions; with these ops it is one. Training uses the ops of `UpSampling2D`.

    Args:
        factor: Upsampling factor, a power of two.
        name: Name of the layer.

    Raises:
        ValueError: If the factor is not a power of two.
    """

    def __init__(self, factor: int = 2, *, name: str | None = None, **options: Any):
        if factor < 1 or factor & (factor - 1):
            raise ValueError(f"Expected factor to be a power of two, got {factor!r}.")
        super().__init__(factor, name=name, **options)
        self.factor = factor

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Returns `[B, factor * H, factor * W, C]`."""
        if training:
            return super().call(inputs)
        for _ in range(self.factor.bit_length() - 1):  # the delegate concatenates at most five maps
            inputs = tf.nn.depth_to_space(tf.concat([inputs] * 4, axis=-1), 2)
        return inputs

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        config = super().get_config()
        return {"factor": self.factor, **{key: config[key] for key in ("name", "dtype", "trainable")}}


@keras.saving.register_keras_serializable("keras_lightdet")
class CropToMatch(keras.layers.Layer):
    """Crops `[B, H, W, C]` at the bottom and the right to the height and width of another map.

    An upsampled map is one row or column too large where the finer map has an odd side.
    """

    def call(self, inputs: Tensor, reference: Tensor) -> Tensor:
        """Returns `[B, H', W', C]`, the size of `reference`."""
        if None not in inputs.shape[1:3] and inputs.shape[1:3] == reference.shape[1:3]:
            return inputs  # no op in an exported graph
        height, width = keras.ops.shape(reference)[1:3]
        return inputs[:, :height, :width]

    def compute_output_spec(self, inputs: keras.KerasTensor, reference: keras.KerasTensor) -> keras.KerasTensor:
        """Returns the shape of `reference` with the channels of `inputs`."""
        return keras.KerasTensor((*reference.shape[:3], inputs.shape[-1]), inputs.dtype)


def upsample_to_match(
    x: keras.KerasTensor, reference: keras.KerasTensor, factor: int = 2, *, name: str
) -> keras.KerasTensor:
    """Adds nearest-neighbor upsampling by `factor` and crops the result to the size of a finer map."""
    x = NearestUpsample2D(factor, name=f"{name}_upsample")(x)
    return CropToMatch(name=f"{name}_crop")(x, reference)


@keras.saving.register_keras_serializable("keras_lightdet")
class ResizeToMatch(keras.layers.Layer):
    """Resizes `[B, H, W, C]` to the height and width of another map, see `resize_maps`."""

    def call(self, inputs: Tensor, reference: Tensor) -> Tensor:
        """Returns `[B, H', W', C]`, the size of `reference`."""
        height, width = reference.shape[1:3]
        known = height is not None and width is not None
        return resize_maps(inputs, (height, width) if known else tf.shape(reference)[1:3])

    def compute_output_spec(self, inputs: keras.KerasTensor, reference: keras.KerasTensor) -> keras.KerasTensor:
        """Returns the shape of `reference` with the channels of `inputs`."""
        return keras.KerasTensor((*reference.shape[:3], inputs.shape[-1]), inputs.dtype)


def resize_maps(maps: tf.Tensor, size: Size | tf.Tensor) -> tf.Tensor:
    """Resizes `[B, H, W, C]` to `[B, *size, C]`, bilinear with `align_corners=True`.

    BiSeNet's authors and all known re-implementations of DFANet upsample in this way.
    """
    if tuple(maps.shape[1:3]) == (tuple(size) if isinstance(size, (tuple, list)) else None):
        return maps  # no op in an exported graph
    # The kernel returns float32 for any input type, and its gradient is fastest in float32.
    resized = tf.raw_ops.ResizeBilinear(images=tf.cast(maps, tf.float32), size=size, align_corners=True)
    return tf.cast(resized, maps.dtype)
