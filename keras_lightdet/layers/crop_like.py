"""Enlarged maps are a row or a column too large where the finer map's side is odd."""

import keras


@keras.saving.register_keras_serializable("keras_lightdet")
class CropLike(keras.layers.Layer):
    """Cuts `[B, H, W, C]` at the bottom and the right to the height and width of another map."""

    def call(self, inputs, like):
        """Returns `[B, H', W', C]`, the size of `like`."""
        if None not in inputs.shape[1:3] and inputs.shape[1:3] == like.shape[1:3]:
            return inputs  # no op in an exported graph
        height, width = keras.ops.shape(like)[1:3]
        return inputs[:, :height, :width]

    def compute_output_spec(self, inputs, like):
        """Returns the shape of `like` with the channels of `inputs`."""
        return keras.KerasTensor((*like.shape[:3], inputs.shape[-1]), inputs.dtype)
