"""BaseModel: one train step and test step for all models. NaN-safe: a non-finite loss or gradient stops the run."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_lightdet.inference_stage import InferenceStage
from keras_lightdet.types import Config, Size, Tensor, Tensors

MAX_HALTED_SOURCES = 256


class BaseModel(keras.Model):
    """A model that trains with stock `compile` and `fit` on the losses that `compute_losses` returns.

    Subclasses define `call`, `compute_losses`, `networks` and `inference_stages`, and extend `config_objects`.

    Data for `fit` are pairs of images and targets (`DetectionTargets` or `SegmentationTargets`). Their optional
    "sources" identify the images when a loss or gradient is not finite.

    Args:
        class_names: Names of the classes in label order.
        input_size: `(height, width)` in pixels to which images are resized.
        loss_names: Keys of the dict that `compute_losses` returns.
        architecture: Name and arguments of the builder, stored in the record of saved weights.
        name: Name of the model.
    """

    # Names of a subclass's own arguments and attributes that Keras serializes: networks and specs.
    config_objects: tuple[str, ...] = ()

    def __init__(
        self,
        *,
        class_names: Sequence[str],
        input_size: Size,
        loss_names: Sequence[str],
        architecture: Mapping[str, Any] | None = None,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.class_names = tuple(class_names)
        height, width = input_size
        self.input_size = (height, width)
        self.architecture = dict(architecture or {})
        self._trackers = {key: keras.metrics.Mean(name=key) for key in ("loss", *loss_names)}
        # Set by the first non-finite loss or gradient; no gradient is applied until a callback has read it.
        first = tf.VariableAggregation.ONLY_FIRST_REPLICA
        self.halted = tf.Variable(False, trainable=False, aggregation=first, name="halted")
        self.halted_sources = tf.Variable(
            tf.fill([MAX_HALTED_SOURCES], -1), trainable=False, aggregation=first, name="halted_sources"
        )

    def __dir__(self) -> Iterable[str]:
        # Keras stores a layer under the first attribute, in alphabetical order, that holds it; "backbone" would come
        # before "layers" and change the paths in weight files.
        return [name for name in super().__dir__() if name != "backbone"]

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def backbone(self) -> keras.layers.Layer:
        """The layer "backbone" of the network that takes the images."""
        return self.layers[0].get_layer("backbone")

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Running means of the losses."""
        return list(self._trackers.values())

    def call(self, images: Tensor, training: bool = False) -> Tensors:
        """Returns the raw float32 outputs for `images` `[B, H, W, 3]`, 0..255 RGB."""
        raise self._missing("call")

    def compute_losses(self, images: Tensor, targets: Any, training: bool) -> Tensors:
        """Returns the weighted terms of the loss, scalars: this replica's sums divided by the count of all replicas."""
        raise self._missing("compute_losses")

    def networks(self, input_size: Size | None = None) -> list[tuple[keras.Model, list[tuple[int, ...]]]]:
        """Returns the functional models in the order they run, each with the shapes of its inputs without the batch.

        Args:
            input_size: `(height, width)` in pixels; `None` = the model's own.
        """
        raise self._missing("networks")

    def inference_stages(self) -> list[InferenceStage]:
        """Returns the functions that make up `call` at inference, in order: the units of the TFLite export."""
        raise self._missing("inference_stages")

    def class_layers(self) -> list[keras.layers.Layer]:
        """Returns the layers whose weights depend on the classes, named "*_class"; others fit any set of classes."""
        return [layer for network in self.layers for layer in network.layers if layer.name.endswith("_class")]

    def get_config(self) -> Config:
        """Returns the constructor's arguments in the form Keras saves."""
        return {
            "class_names": list(self.class_names),
            "input_size": list(self.input_size),
            "architecture": self.architecture,
            "name": self.name,
            **{key: keras.saving.serialize_keras_object(getattr(self, key)) for key in self.config_objects},
        }

    @classmethod
    def from_config(cls, config: Config) -> "BaseModel":
        """Rebuilds the model from the config that `get_config` returned."""
        objects = {key: value for key, value in config.items() if isinstance(value, dict) and key != "architecture"}
        return cls(**config | {key: keras.saving.deserialize_keras_object(value) for key, value in objects.items()})

    def train_step(self, data: Any) -> Tensors:
        """Takes one optimizer step; from the first non-finite loss or gradient on, all gradients are zeros."""
        images, targets, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            losses = self.compute_losses(images, targets, training=True)
            penalties = [penalty / _num_replicas() for penalty in self.losses]
            loss = ops.sum(ops.stack([*losses.values(), *penalties]))
            scaled_loss = self.optimizer.scale_loss(loss)
        variables = self.trainable_weights
        gradients = tape.gradient(scaled_loss, variables)
        halted = self._update_halted(self._all_finite(loss, gradients), targets)
        gradients = [g if g is None else tf.where(halted, tf.zeros_like(g), g) for g in gradients]
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return self._update_metrics(loss, losses, images)

    def test_step(self, data: Any) -> Tensors:
        """Computes the losses of a batch in inference mode."""
        images, targets, _ = keras.utils.unpack_x_y_sample_weight(data)
        losses = self.compute_losses(images, targets, training=False)
        return self._update_metrics(ops.sum(ops.stack(list(losses.values()))), losses, images)

    def build(self, input_shape: Any = None) -> None:
        """Marks the model as built: its networks are functional models, which are built on creation."""
        self.built = True

    def export(
        self,
        filepath: str | os.PathLike[str],
        format: str = "tf_saved_model",
        verbose: bool | None = None,
        input_signature: Any = None,
        **kwargs: Any,
    ) -> None:
        """Exports `call`, which gives the raw outputs, with Keras; see `keras.Model.export` for the arguments.

        `~` in `filepath` is expanded. By default the input is float32 images `[B, *input_size, 3]`, 0..255.
        For a TFLite file with post-processing inside use `keras_lightdet.deploy`.
        """
        if input_signature is None:
            input_signature = [keras.InputSpec(shape=(None, *self.input_size, 3), dtype="float32")]
        super().export(os.path.expanduser(filepath), format, verbose, input_signature, **kwargs)

    def _all_finite(self, loss: Tensor, gradients: Sequence[Tensor | None]) -> Tensor:
        """Returns whether loss and gradients are finite; a mask can hide a NaN from the loss, not the gradients."""
        finite = tf.math.is_finite(loss)
        if not isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):  # it skips overflows itself
            sums = [tf.cast(tf.reduce_sum(gradient), loss.dtype) for gradient in gradients if gradient is not None]
            finite &= tf.math.is_finite(tf.add_n(sums))
        return finite

    def _update_halted(self, finite: Tensor, targets: Any) -> Tensor:
        """Sets `halted` at the first batch that is not finite, and stores its sources; returns `halted`."""
        fault = global_sum(tf.cast(~finite, tf.float32)) > 0
        if "sources" in targets:
            sources = tf.cast(targets["sources"], tf.int32)
            if _num_replicas() > 1:
                sources = tf.distribute.get_replica_context().all_gather(sources, axis=0)
            sources = tf.reshape(sources, [-1])[:MAX_HALTED_SOURCES]
            sources = tf.pad(sources, [[0, MAX_HALTED_SOURCES - tf.shape(sources)[0]]], constant_values=-1)
            is_first = fault & ~self.halted
            self.halted_sources.assign(tf.where(is_first, sources, self.halted_sources))
        halted = self.halted | fault
        self.halted.assign(halted)
        return halted

    def _update_metrics(self, loss: Tensor, losses: Tensors, images: Tensor) -> Tensors:
        with tf.control_dependencies([loss]):
            # Without this dependency a constant weight is counted once more when the data run out.
            weight = tf.identity(tf.cast(tf.shape(images)[0], tf.float32))
        for key, value in {"loss": loss, **losses}.items():
            self._trackers[key].update_state(value * _num_replicas(), weight)
        return {key: tracker.result() for key, tracker in self._trackers.items()}

    def _missing(self, method: str) -> NotImplementedError:
        return NotImplementedError(f"Expected {type(self).__name__} to define {method}(), got none. Define it.")


def global_sum(value: Tensor) -> Tensor:
    """Sums a scalar over the replicas of a distribution strategy."""
    return tf.distribute.get_replica_context().all_reduce("sum", value) if _num_replicas() > 1 else value


def _num_replicas() -> int:
    context = tf.distribute.get_replica_context()
    return context.num_replicas_in_sync if context is not None else 1
