"""Trains with the stock `fit` so that a run that was killed goes on as if it had not been."""

from collections.abc import Callable, Sequence

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

    A run resumed in mid-epoch takes two fits: the rest of that epoch, then the other epochs. The callbacks
    see one training of whole epochs with true epoch and batch numbers. As after a stock `fit`, an optimizer
    with `use_ema` leaves the averaged weights in the model; the checkpoints hold both.

    Args:
        model: A built, compiled model.
        make_train_data: Makes the endless training data as it is from a given step on: a function of the step
            (and a seed) alone, such as `lambda step: train_batches(..., start_step=step)`.
        epochs: Epochs of the whole run.
        steps_per_epoch: Steps of an epoch, a multiple of the model's `steps_per_execution`.
        checkpoint: Saves and restores the run; it is put behind `callbacks`.
        callbacks: In the order they are called: guards first, then evaluation, then what reports it.
        resume: Whether to go on from `checkpoint`'s folder; a run that has ended returns at once.

    Returns:
        The history of the epochs trained now.

    Raises:
        ValueError: If `steps_per_execution` does not divide `steps_per_epoch`.
        CheckpointError: If the checkpoints cannot be used, or are there and `resume` is not set.
    """
    if steps_per_epoch % model.steps_per_execution:
        raise ValueError(
            f"Expected steps_per_epoch to be a multiple of steps_per_execution={model.steps_per_execution}, "
            f"got {steps_per_epoch!r}. Compile with a divisor of {steps_per_epoch}, such as 1."
        )
    state = checkpoint.restore(model) if resume else None
    epoch, batch = (state.epoch, state.batch) if state else (0, 0)
    run = _OneTraining([*callbacks, checkpoint], model, epochs, steps_per_epoch)
    if epoch >= epochs:
        model.optimizer.finalize_variable_values(model.trainable_variables)
        return model.history
    if batch:
        data, rest = make_train_data(state.step), steps_per_epoch - batch
        if len(model.metrics_variables) != len(state.metrics):
            # A compiled loss makes its metrics at its first use, too late to be given their values back.
            model.evaluate(data, steps=1, verbose=0)
        run.first_batch = batch
        model.fit(data, initial_epoch=epoch, epochs=epoch + 1, steps_per_epoch=rest, shuffle=False, callbacks=run)
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


class _OneTraining(keras.callbacks.CallbackList):
    """Lets two fits look like one training to the callbacks, and to the weights."""

    def __init__(
        self, callbacks: list[keras.callbacks.Callback], model: keras.Model, epochs: int, steps_per_epoch: int
    ):
        super().__init__(callbacks, add_history=True, model=model, epochs=epochs, steps=steps_per_epoch)
        self.first_batch = 0
        self._begun = False
        self._raw_weights: list[np.ndarray] = []
        self._last_logs = None

    def on_train_begin(self, logs=None):
        if not self._begun:
            super().on_train_begin(logs)
        self._begun = True

    def on_train_batch_begin(self, batch: int, logs=None):
        super().on_train_batch_begin(self.first_batch + batch, logs)

    def on_train_batch_end(self, batch: int, logs=None):
        super().on_train_batch_end(self.first_batch + batch, logs)

    def on_epoch_end(self, epoch: int, logs=None):
        super().on_epoch_end(epoch, logs)
        if self.first_batch:
            self._raw_weights = [keras.ops.convert_to_numpy(v) for v in self.model.trainable_variables]

    def on_train_end(self, logs=None):
        self._last_logs = logs

    def continue_training(self):
        """Takes back what the end of a fit does under `use_ema`: it puts the averages into the weights."""
        if self._raw_weights:
            for variable, value in zip(self.model.trainable_variables, self._raw_weights, strict=True):
                variable.assign(value)

    def close(self):
        super().on_train_end(self._last_logs)
