"""The state of a run: saved while training, restored bit for bit, refused where it is another run's."""

import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import keras
import numpy as np

from keras_lightdet.errors import CheckpointError
from keras_lightdet.training.checkpoint_files import (
    DamagedError,
    list_checkpoints,
    read_checkpoint,
    write_checkpoint,
)

_LOGGER = logging.getLogger(__name__)
_SHOWN_CHARACTERS = 200


class StatefulCallback(Protocol):
    """A callback whose memory belongs to the run, such as the best score so far."""

    def get_state(self) -> dict:
        """Returns what must survive a restart, fit for JSON."""

    def set_state(self, state: dict) -> None:
        """Takes up what `get_state` once returned."""


@dataclass(frozen=True)
class TrainingState:
    """Where a checkpoint was taken.

    Attributes:
        step: Batches trained on since the run began.
        epoch: Whole epochs done.
        batch: Batches done in the epoch that follows; 0 at an epoch's end.
        metrics: The values of the model's metric variables in mid-epoch, else empty.
        callbacks: The states of the stateful callbacks, by class name.
    """

    step: int
    epoch: int
    batch: int
    metrics: Sequence[np.ndarray] = ()
    callbacks: Mapping[str, dict] = field(default_factory=dict)


def restore(
    model: keras.Model, directory: str | os.PathLike, run_config: Mapping | None = None
) -> TrainingState | None:
    """Puts the newest usable checkpoint of a folder into a compiled, built model and its optimizer.

    Damaged checkpoints are named in a logged warning, and the one before is taken.

    Args:
        model: The model as it was before the run's first step: built and compiled in the same way.
        directory: The folder that `TrainingCheckpoint` saves to.
        run_config: What must be equal to what was saved for the runs to be one; None compares nothing.

    Returns:
        Where to go on, or None if the folder holds no checkpoint at all.

    Raises:
        CheckpointError: If every checkpoint is damaged, or the run or the model is another one.
    """
    folders = list_checkpoints(directory)
    for folder in folders:
        try:
            arrays, state = read_checkpoint(folder)
        except DamagedError as error:
            _LOGGER.warning("%s. This checkpoint is damaged and not used.", error)
            continue
        if run_config is not None:
            _check_config(folder, state["run_config"], _plain(run_config))
        _assign_variables(model, arrays, state["variables"], folder)
        metrics = [arrays[name] for name in _names("metrics", len(state["variables"]["metrics"]))]
        _LOGGER.info("Restored %s: step %d, epoch %d.", folder, state["step"], state["epoch"])
        return TrainingState(state["step"], state["epoch"], state["batch"], metrics, state["callbacks"])
    if folders:
        raise CheckpointError(
            f"Expected a usable checkpoint in {directory}, got only damaged ones: "
            f"{', '.join(folder.name for folder in folders)}. Remove them to start the training anew."
        )
    return None


class TrainingCheckpoint(keras.callbacks.Callback):
    """Saves the whole state of a run at each epoch's end, and in mid-epoch every so many seconds.

    Saved are the model's variables (BatchNormalization's statistics and seed generators too), the optimizer's
    (moments, iterations, moving average, loss scale), the position, the metrics of an epoch under way and the
    states of other callbacks. Randomness that hangs on none of these (NumPy's global generator, stateful
    `tf.random` functions) does not come back; the data must follow from the step. It must be the last of the
    callbacks, so that an epoch's evaluation is in its checkpoint; `fit_resumable` puts it there.

    Args:
        directory: The folder for checkpoints; the newest two are kept.
        stateful: Callbacks with `get_state()` and `set_state(state)`, at most one of each class.
        every_seconds: The time between saves in mid-epoch; None saves at the epochs' ends alone.
        run_config: Facts that make it this run, fit for JSON (batch size, classes, data fingerprint, seed).

    Raises:
        ValueError: If two stateful callbacks are of one class.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        *,
        stateful: Sequence[StatefulCallback] = (),
        every_seconds: float | None = 600,
        run_config: Mapping | None = None,
    ):
        super().__init__()
        self.directory = directory
        self._stateful = {type(callback).__name__: callback for callback in stateful}
        if len(self._stateful) != len(stateful):
            raise ValueError(f"Expected stateful callbacks of different classes, got {stateful!r}. Merge them.")
        self._every_seconds = every_seconds
        self._run_config = _plain(run_config or {})
        self._owns_directory = False
        self._state = TrainingState(step=0, epoch=0, batch=0)
        self._pending_metrics: Sequence[np.ndarray] = ()
        self._saved_at = time.monotonic()

    def restore(self, model: keras.Model) -> TrainingState | None:
        """Restores model, optimizer and stateful callbacks; the next fit goes on from there.

        Raises:
            CheckpointError: As `restore` does, or if the checkpoint lacks a stateful callback's state.
        """
        state = restore(model, self.directory, self._run_config)
        if state is None:
            return None
        missing = [name for name in self._stateful if name not in state.callbacks]
        if missing:
            raise CheckpointError(
                f"Expected the checkpoints in {self.directory} to hold the states of {missing}, got "
                f"{sorted(state.callbacks)}. Resume with the callbacks the run began with."
            )
        for name, callback in self._stateful.items():
            callback.set_state(state.callbacks[name])
        self._state, self._pending_metrics, self._owns_directory = state, state.metrics, True
        return state

    def on_train_begin(self, logs=None):
        """Refuses a folder that holds another run's checkpoints.

        Raises:
            CheckpointError: If checkpoints are there and nothing was restored.
        """
        if not self._owns_directory and list_checkpoints(self.directory):
            raise CheckpointError(
                f"Expected no checkpoints in {self.directory} at the start of a new run, got some. "
                "Resume that run, choose another folder, or remove them."
            )
        self._owns_directory = True
        self._saved_at = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs=None):
        """Gives a resumed epoch the metrics it had: Keras has just reset them.

        Raises:
            CheckpointError: If the model reports other metrics than it did.
        """
        values, self._pending_metrics = self._pending_metrics, ()
        variables = self.model.metrics_variables
        if values and len(values) != len(variables):
            raise CheckpointError(
                f"Expected the metrics that {self.directory} holds ({len(values)} variables), got "
                f"{len(variables)}. Compile with the metrics the run began with and use fit_resumable."
            )
        for variable, value in zip(variables, values, strict=False):
            variable.assign(value)

    def on_train_batch_end(self, batch: int, logs=None):
        """Counts the batches, several at a time under `steps_per_execution`, and saves when it is time."""
        done = batch + 1
        step = self._state.step + done - self._state.batch
        self._state = TrainingState(step, self._state.epoch, done)
        last = self.params.get("steps") is not None and done >= self.params["steps"]
        due = self._every_seconds is not None and time.monotonic() - self._saved_at >= self._every_seconds
        if due and not last:
            self._save()

    def on_epoch_end(self, epoch: int, logs=None):
        """Saves the epoch's end."""
        self._state = TrainingState(self._state.step, epoch + 1, 0)
        self._save()

    def _save(self):
        groups = {"model": self.model.variables, "optimizer": self.model.optimizer.variables}
        groups["metrics"] = self.model.metrics_variables if self._state.batch else []
        arrays = {}
        for group, variables in groups.items():
            for name, variable in zip(_names(group, len(variables)), variables, strict=True):
                arrays[name] = keras.ops.convert_to_numpy(variable)
                if group != "metrics":
                    self._check_finite(variable.path, arrays[name])
        state = {
            "step": self._state.step,
            "epoch": self._state.epoch,
            "batch": self._state.batch,
            "run_config": self._run_config,
            "callbacks": {name: callback.get_state() for name, callback in self._stateful.items()},
            "variables": {group: _describe(variables) for group, variables in groups.items()},
        }
        write_checkpoint(self.directory, self._state.step, arrays, state)
        self._saved_at = time.monotonic()

    def _check_finite(self, path: str, value: np.ndarray):
        if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all():
            raise CheckpointError(
                f"Expected finite weights at step {self._state.step}, got NaN or infinity in {path}. The "
                f"checkpoints in {self.directory} are of before: resume with a lower rate or clipping."
            )


def _names(group: str, count: int) -> list[str]:
    return [f"{group}_{index:05d}" for index in range(count)]


def _describe(variables: Sequence[keras.Variable]) -> list[list]:
    return [[variable.path, list(variable.shape), variable.dtype] for variable in variables]


def _plain(config: Mapping) -> dict:
    return json.loads(json.dumps(config))  # Tuples become lists, as they do in the file.


def _check_config(folder: os.PathLike, saved: Mapping, wanted: Mapping):
    differing = [
        f"{key}: saved {_short(saved.get(key))}, now {_short(wanted.get(key))}"
        for key in sorted({*saved, *wanted})
        if saved.get(key) != wanted.get(key)
    ]
    if differing:
        raise CheckpointError(
            f"Expected {folder} to be of the same run, got differences in {'; '.join(differing)}. Resume "
            "with the settings it began with, or start a new run in another folder."
        )


def _short(value: object) -> str:
    return str(value)[:_SHOWN_CHARACTERS]


def _assign_variables(model: keras.Model, arrays: Mapping, saved: Mapping, folder: os.PathLike):
    if not model.optimizer.built:
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)
    groups = {"model": model.variables, "optimizer": model.optimizer.variables}
    for group, variables in groups.items():
        # Paths are left out: Keras numbers layers without a name anew in each process.
        kinds = [entry[1:] for entry in _describe(variables)]
        if [entry[1:] for entry in saved[group]] != kinds:
            raise CheckpointError(
                f"Expected {folder} to fit the {group}'s {len(kinds)} variables, got {len(saved[group])} or "
                "other shapes or types. Build and compile the model as it was when the run began."
            )
    for group, variables in groups.items():
        for name, variable in zip(_names(group, len(variables)), variables, strict=True):
            variable.assign(arrays[name])
