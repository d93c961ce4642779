"""Batch norm that trains through TensorFlow's fused kernel, and over all replicas where there are several."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("keras_lightdet")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras' batch norm over the last axis of `[B, H, W, C]`, with one kernel for the training pass on a single
    replica.

    Keras 3 composes the training pass of some ten element-wise kernels; the fused one makes a training step of a
    network of depthwise convolutions about 1.6 times as fast on a CPU. It keeps the unbiased variance in the moving
    average, as PyTorch does. Under a distribution strategy with several replicas the statistics are those of all
    replicas (Keras' own path).

    Args:
        fixed_statistics: Whether the moving averages stay as they are and serve in training too, while gamma and beta
            are trained: for batches too small to have statistics. May be set later.
    """

    def __init__(self, *, fixed_statistics: bool = False, **kwargs):
        super().__init__(**{**kwargs, "synchronized": True})
        self.fixed_statistics = fixed_statistics

    def call(self, inputs, training=None, mask=None):
        """Normalises `inputs`; see `keras.layers.BatchNormalization`."""
        training = training and not self.fixed_statistics
        fused = training and self.trainable and self.compute_dtype != "float64" and _on_one_replica()
        if not fused or inputs.shape.rank != 4:
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            tf.cast(inputs, tf.float32), self.gamma, self.beta, epsilon=self.epsilon, is_training=True
        )
        for moving, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + new * (1.0 - self.momentum))
        return tf.cast(outputs, self.compute_dtype)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "fixed_statistics": self.fixed_statistics}


def _on_one_replica() -> bool:
    context = tf.distribute.get_replica_context()
    return context is None or context.num_replicas_in_sync == 1
