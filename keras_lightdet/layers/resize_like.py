"""Maps resized to the size of another map, which need not be a multiple of theirs."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("keras_lightdet")
class ResizeLike(keras.layers.Layer):
    """Resizes `[B, H, W, C]` to the height and width of another map, see `resize_maps`."""

    def call(self, inputs, like):
        """Returns `[B, H', W', C]`, the size of `like`."""
        return resize_maps(inputs, _size(like))

    def compute_output_spec(self, inputs, like):
        """Returns the shape of `like` with the channels of `inputs`."""
        return keras.KerasTensor((*like.shape[:3], inputs.shape[-1]), inputs.dtype)


def resize_maps(maps: tf.Tensor, size: tuple[int, int] | tf.Tensor) -> tf.Tensor:
    """Resizes `[B, H, W, C]` to `[B, *size, C]`, bilinear with the corner pixels' centres kept (`align_corners`).

    That is how the authors of BiSeNet and all known re-implementations of DFANet enlarge their maps.
    """
    if tuple(maps.shape[1:3]) == (tuple(size) if isinstance(size, (tuple, list)) else None):
        return maps  # no op in an exported graph
    # The kernel answers in float32 whatever it is given, and its gradient is quickest there.
    resized = tf.raw_ops.ResizeBilinear(images=tf.cast(maps, tf.float32), size=size, align_corners=True)
    return tf.cast(resized, maps.dtype)


def _size(maps: tf.Tensor) -> tuple[int, int] | tf.Tensor:
    size = tuple(maps.shape[1:3])
    return tf.shape(maps)[1:3] if None in size else size
