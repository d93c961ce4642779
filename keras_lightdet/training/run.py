"""Trains with stock `fit` so that a killed and resumed run equals an uninterrupted one."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_lightdet.training.checkpoint import TrainingCheckpoint


def fit_resumable(
    model: keras.Model,
    make_train_data: Callable[[int], tf.data.Dataset],
    *,
    epochs: int,
    steps_per_epoch: int,
    checkpoint: TrainingCheckpoint,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    resume: bool = False,
) -> keras.callbacks.History:
    """Fits a compiled model, from the newest checkpoint on if `resume` is set and there is one.

    A run resumed within an epoch takes two fits: the rest of that epoch, then the other epochs. The callbacks see one
    training of whole epochs with the true epoch and batch numbers. As after stock `fit`, an optimizer with `use_ema`
    leaves the averaged weights in the model; the checkpoints hold both.

    Args:
        model: A built, compiled model.
        make_train_data: Builds the endless training data from a given step on. It depends on the step (and a seed)
            only, such as `lambda step: train_batches(..., start_step=step)`.
        epochs: Epochs of the whole run.
        steps_per_epoch: Steps of an epoch, a multiple of the model's `steps_per_execution`.
        checkpoint: Saves and restores the run; it is called after `callbacks`.
        callbacks: In the order they are called: `HaltOnNaN` first, then the evaluation, then what reports it.
        resume: Whether to continue from the folder of `checkpoint`; a finished run returns at once.

    Returns:
        The history of the epochs trained by this call.

    Raises:
        ValueError: If `steps_per_execution` does not divide `steps_per_epoch`.
        CheckpointError: If the checkpoints cannot be used, or exist and `resume` is not set.
    """
    if steps_per_epoch % model.steps_per_execution:
        raise ValueError(
            f"Expected steps_per_epoch to be a multiple of steps_per_execution={model.steps_per_execution}, "
            f"got {steps_per_epoch!r}. Compile with a divisor of {steps_per_epoch}, such as 1."
        )
    state = checkpoint.restore(model) if resume else None
    epoch = state.epoch if state else 0
    run = _SingleTraining([*callbacks, checkpoint], model, epochs, steps_per_epoch)
    if epoch >= epochs:
        model.optimizer.finalize_variable_values(model.trainable_variables)
        return model.history
    if state and state.batch:
        data = make_train_data(state.step)
        if len(model.metrics_variables) != len(state.metrics):
            # A compiled loss creates its metrics at its first use, too late to restore their values.
            model.evaluate(data, steps=1, verbose=0)
        run.first_batch = state.batch
        model.fit(
            data,
            initial_epoch=epoch,
            epochs=epoch + 1,
            steps_per_epoch=steps_per_epoch - state.batch,
            shuffle=False,
            callbacks=run,
        )
        epoch += 1
    if epoch < epochs and not model.stop_training:
        run.first_batch = 0
        run.continue_training()
        model.fit(
            make_train_data(epoch * steps_per_epoch),
            initial_epoch=epoch,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch,
            shuffle=False,
            callbacks=run,
        )
    run.close()
    return model.history


class _SingleTraining(keras.callbacks.CallbackList):
    """Presents two fits to the callbacks, and to the weights, as one training."""

    def __init__(
        self, callbacks: list[keras.callbacks.Callback], model: keras.Model, epochs: int, steps_per_epoch: int
    ):
        super().__init__(callbacks, add_history=True, model=model, epochs=epochs, steps=steps_per_epoch)
        self.first_batch = 0
        self._begun = False
        self._raw_weights: list[np.ndarray] = []
        self._last_logs: dict[str, Any] | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if not self._begun:
            super().on_train_begin(logs)
        self._begun = True

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_train_batch_begin(self.first_batch + batch, logs)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_train_batch_end(self.first_batch + batch, logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        if self.first_batch:
            self._raw_weights = [keras.ops.convert_to_numpy(v) for v in self.model.trainable_variables]

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._last_logs = logs

    def continue_training(self) -> None:
        """Restores the raw weights, which the end of a fit replaces by their averages under `use_ema`."""
        if self._raw_weights:
            for variable, value in zip(self.model.trainable_variables, self._raw_weights, strict=True):
                variable.assign(value)

    def close(self) -> None:
        super().on_train_end(self._last_logs)
