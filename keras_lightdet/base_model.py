"""BaseModel: one train step and test step for all models of the package, which survive what is no number."""

from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf
from keras import ops

MAX_HALTED_SOURCES = 256


class BaseModel(keras.Model):
    """A model that trains by stock `compile` and `fit` on what its `compute_losses` returns.

    Data for `fit` are pairs of images and a dict of targets, whose optional "sources" `[B, S]` (int, -1 pads) name the
    images when a loss or gradient is not finite.

    Args:
        class_names: Names of the classes in label order.
        input_size: `(height, width)` in pixels that images are stretched to.
        loss_names: Keys of what `compute_losses` returns.
        architecture: Name and arguments of the builder, kept beside saved weights.
        name: Name of the model.
    """

    def __init__(
        self,
        *,
        class_names: Sequence[str],
        input_size: tuple[int, int],
        loss_names: Sequence[str],
        architecture: Mapping | None = None,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.class_names = tuple(class_names)
        self.input_size = tuple(input_size)
        self.architecture = dict(architecture or {})
        self._trackers = {key: keras.metrics.Mean(name=key) for key in ("loss", *loss_names)}
        # Set by the first loss or gradient that is not finite: it stops all later gradients until Python looks.
        first = tf.VariableAggregation.ONLY_FIRST_REPLICA
        self.halted = tf.Variable(False, trainable=False, aggregation=first, name="halted")
        self.halted_sources = tf.Variable(
            tf.fill([MAX_HALTED_SOURCES], -1), trainable=False, aggregation=first, name="halted_sources"
        )

    @property
    def num_classes(self) -> int:
        """How many classes are told apart."""
        return len(self.class_names)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The running means of the losses."""
        return list(self._trackers.values())

    def compute_losses(self, images, targets, training: bool) -> dict:
        """Returns the weighted parts of the loss: this replica's share, divided by the count of all replicas."""
        raise NotImplementedError(f"{type(self).__name__} must define compute_losses.")

    def networks(self, input_size: tuple[int, int] | None = None) -> list[tuple[keras.Model, list[tuple]]]:
        """Returns the functional models in the order they run, each with the shapes of its inputs without the batch.

        Args:
            input_size: `(height, width)` in pixels; `None` takes the model's own.
        """
        raise NotImplementedError(f"{type(self).__name__} must define networks.")

    def train_step(self, data) -> dict:
        """Takes one optimizer step on a batch; once a loss or gradient is not finite, none reaches the weights."""
        images, targets, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            losses = self.compute_losses(images, targets, training=True)
            extra = [penalty / _num_replicas() for penalty in self.losses]
            loss = ops.sum(ops.stack([*losses.values(), *extra]))
            scaled = self.optimizer.scale_loss(loss)
        variables = self.trainable_weights
        gradients = tape.gradient(scaled, variables)
        halted = self._watch(self._is_sound(loss, gradients), targets)
        gradients = [_zero_where(halted, gradient) for gradient in gradients]
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return self._track(loss, losses, images)

    def test_step(self, data) -> dict:
        """Computes the losses of a batch as at inference."""
        images, targets, _ = keras.utils.unpack_x_y_sample_weight(data)
        losses = self.compute_losses(images, targets, training=False)
        return self._track(ops.sum(ops.stack(list(losses.values()))), losses, images)

    def build(self, input_shape=None) -> None:
        """Marks the model as built: its networks were built with it."""
        self.built = True

    def _is_sound(self, loss: tf.Tensor, gradients: Sequence) -> tf.Tensor:
        """Whether a step can be taken: what is no number can be lost on the way to the loss, not on the way back."""
        sound = tf.math.is_finite(loss)
        if not isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):  # which skips overflows by itself
            sums = [tf.cast(tf.reduce_sum(gradient), loss.dtype) for gradient in gradients if gradient is not None]
            sound &= tf.math.is_finite(tf.add_n(sums))
        return sound

    def _watch(self, sound: tf.Tensor, targets) -> tf.Tensor:
        """Notes the images of the first batch that is not sound; true from then on."""
        bad = global_sum(tf.cast(~sound, tf.float32)) > 0
        if "sources" in targets:
            sources = tf.reshape(_gather_replicas(tf.cast(targets["sources"], tf.int32)), [-1])[:MAX_HALTED_SOURCES]
            sources = tf.pad(sources, [[0, MAX_HALTED_SOURCES - tf.shape(sources)[0]]], constant_values=-1)
            first_time = bad & ~self.halted
            self.halted_sources.assign(tf.where(first_time, sources, self.halted_sources))
        halted = self.halted | bad
        self.halted.assign(halted)
        return halted

    def _track(self, loss, losses: dict, images) -> dict:
        with tf.control_dependencies([loss]):
            # Without the loss before it a constant weight is counted once more when the data run out.
            weight = tf.identity(tf.cast(tf.shape(images)[0], tf.float32))
        for key, value in {"loss": loss, **losses}.items():
            self._trackers[key].update_state(value * _num_replicas(), weight)
        return {key: tracker.result() for key, tracker in self._trackers.items()}


def global_sum(value: tf.Tensor) -> tf.Tensor:
    """Sums a scalar over the replicas of a distribution strategy."""
    context = tf.distribute.get_replica_context()
    return context.all_reduce("sum", value) if _num_replicas() > 1 else value


def _gather_replicas(value: tf.Tensor) -> tf.Tensor:
    context = tf.distribute.get_replica_context()
    return context.all_gather(value, axis=0) if _num_replicas() > 1 else value


def _num_replicas() -> int:
    context = tf.distribute.get_replica_context()
    return context.num_replicas_in_sync if context is not None else 1


def _zero_where(halted: tf.Tensor, gradient: tf.Tensor | None) -> tf.Tensor | None:
    return None if gradient is None else tf.where(halted, tf.zeros_like(gradient), gradient)
