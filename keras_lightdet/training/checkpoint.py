"""The state of a run: saved during training, restored bit for bit, refused by a run with other settings."""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import keras
import numpy as np

from keras_lightdet.errors import CheckpointError
from keras_lightdet.files import StrPath
from keras_lightdet.training.checkpoint_files import (
    DamagedError,
    list_checkpoints,
    read_checkpoint,
    write_checkpoint,
)

_LOGGER = logging.getLogger(__name__)
_SHOWN_CHARACTERS = 200

JsonDict: TypeAlias = dict[str, Any]


class StatefulCallback(Protocol):
    """A callback whose state belongs to the run, such as the best score so far."""

    def get_state(self) -> JsonDict:
        """Returns the state, serializable as JSON."""

    def set_state(self, state: JsonDict) -> None:
        """Restores the state that `get_state` returned."""


@dataclass(frozen=True)
class TrainingState:
    """Position and state of a run at a checkpoint.

    Attributes:
        step: Batches trained on since the run began.
        epoch: Whole epochs done.
        batch: Batches done in the epoch that follows; 0 at the end of an epoch.
        metrics: The values of the model's metric variables within an epoch, else empty.
        callbacks: The states of the stateful callbacks, by class name.
    """

    step: int
    epoch: int
    batch: int
    metrics: Sequence[np.ndarray] = ()
    callbacks: Mapping[str, JsonDict] = field(default_factory=dict)


def restore(
    model: keras.Model, directory: StrPath, run_config: Mapping[str, Any] | None = None
) -> TrainingState | None:
    """Loads the newest usable checkpoint of a folder into a compiled, built model and its optimizer.

    A damaged checkpoint is logged as a warning, and the one before it is used.

    Args:
        model: The model as it was before the first step of the run: built and compiled in the same way.
        directory: The folder that `TrainingCheckpoint` saves to.
        run_config: Settings that must equal the saved ones; None compares nothing.

    Returns:
        The state to continue from, or None if the folder holds no checkpoint.

    Raises:
        CheckpointError: If every checkpoint is damaged, or belongs to another run or model.
    """
    folders = list_checkpoints(directory)
    for folder in folders:
        try:
            arrays, state = read_checkpoint(folder)
        except DamagedError as error:
            _LOGGER.warning("%s. This checkpoint is damaged and not used.", error)
            continue
        if run_config is not None:
            _check_config(folder, state["run_config"], _to_json(run_config))
        _assign_variables(model, arrays, state["variables"], folder)
        metrics = [arrays[name] for name in _names("metrics", len(state["variables"]["metrics"]))]
        _LOGGER.info("Restored %s: step %d, epoch %d.", folder, state["step"], state["epoch"])
        return TrainingState(state["step"], state["epoch"], state["batch"], metrics, state["callbacks"])
    if folders:
        raise CheckpointError(
            f"Expected a usable checkpoint in {directory}, got only damaged ones: "
            f"{', '.join(folder.name for folder in folders)}. Remove them to start the training again."
        )
    return None


class TrainingCheckpoint(keras.callbacks.Callback):
    """Saves the whole state of a run at the end of each epoch, and at a time interval within it.

    It saves the model's variables (with the statistics of BatchNormalization and seed generators), the optimizer's
    (moments, iterations, moving average, loss scale), the position, the metrics of an unfinished epoch and the states
    of other callbacks. Randomness with any other state (NumPy's global generator, stateful `tf.random` functions) is
    not restored; the data must depend on the step only. It must be the last callback, so that the evaluation of an
    epoch is in its checkpoint; `fit_resumable` places it there.

    Args:
        directory: The folder for checkpoints; the newest two are kept.
        stateful: Callbacks with `get_state()` and `set_state(state)`, at most one of each class.
        every_seconds: Seconds between saves within an epoch; None saves at the end of epochs only.
        run_config: Settings that identify the run, serializable as JSON (batch size, classes, data fingerprint, seed).

    Raises:
        ValueError: If two stateful callbacks have the same class.
    """

    def __init__(
        self,
        directory: StrPath,
        *,
        stateful: Sequence[StatefulCallback] = (),
        every_seconds: float | None = 600,
        run_config: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.directory = directory
        self._stateful = {type(callback).__name__: callback for callback in stateful}
        if len(self._stateful) != len(stateful):
            raise ValueError(f"Expected stateful callbacks of different classes, got {stateful!r}. Merge them.")
        self._every_seconds = every_seconds
        self._run_config = _to_json(run_config or {})
        self._owns_directory = False
        self._state = TrainingState(step=0, epoch=0, batch=0)
        self._pending_metrics: Sequence[np.ndarray] = ()
        self._saved_at = time.monotonic()

    def restore(self, model: keras.Model) -> TrainingState | None:
        """Restores model, optimizer and stateful callbacks; the next fit continues from there.

        Raises:
            CheckpointError: As `restore` does, or if the checkpoint lacks the state of a stateful callback.
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

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Checks that the folder does not hold the checkpoints of another run.

        Raises:
            CheckpointError: If it holds checkpoints and nothing was restored.
        """
        if not self._owns_directory and list_checkpoints(self.directory):
            raise CheckpointError(
                f"Expected no checkpoints in {self.directory} at the start of a new run, got some. "
                "Resume that run, choose another folder, or remove them."
            )
        self._owns_directory = True
        self._saved_at = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Restores the metrics of a resumed epoch, which Keras has just reset.

        Raises:
            CheckpointError: If the model has other metrics than the checkpoint.
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

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Counts the batches, several at a time under `steps_per_execution`, and saves if the interval has passed."""
        done = batch + 1
        step = self._state.step + done - self._state.batch
        self._state = TrainingState(step, self._state.epoch, done)
        is_last = self.params.get("steps") is not None and done >= self.params["steps"]
        is_due = self._every_seconds is not None and time.monotonic() - self._saved_at >= self._every_seconds
        if is_due and not is_last:
            self._save()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Saves the end of the epoch."""
        self._state = TrainingState(self._state.step, epoch + 1, 0)
        self._save()

    def _save(self) -> None:
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

    def _check_finite(self, path: str, value: np.ndarray) -> None:
        if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all():
            raise CheckpointError(
                f"Expected finite weights at step {self._state.step}, got NaN or infinity in {path}. The checkpoints "
                f"in {self.directory} are from before: resume with a lower learning rate or clip gradients."
            )


def _names(group: str, count: int) -> list[str]:
    return [f"{group}_{index:05d}" for index in range(count)]


def _describe(variables: Sequence[keras.Variable]) -> list[list[Any]]:
    return [[variable.path, list(variable.shape), variable.dtype] for variable in variables]


def _to_json(config: Mapping[str, Any]) -> JsonDict:
    return json.loads(json.dumps(config))  # tuples become lists, as in the file


def _check_config(folder: Path, saved: JsonDict, current: JsonDict) -> None:
    saved, current = _flatten(saved), _flatten(current)
    differences = [
        f"{key}: saved {_shorten(saved, key)}, now {_shorten(current, key)}"
        for key in sorted({*saved, *current})
        if key not in saved or key not in current or saved[key] != current[key]
    ]
    if not differences:
        return
    cure = "Resume with the settings it began with, or start a new run in another folder."
    if saved.keys() != current.keys():
        cure = (
            "A setting that exists on one side only comes from another version of keras_lightdet, or another recipe. "
            "Resume with that one, or start a new run in another folder."
        )
    raise CheckpointError(
        f"Expected {folder} to be from the same run, got differences in {'; '.join(differences)}. {cure}"
    )


def _flatten(config: JsonDict, prefix: str = "") -> JsonDict:
    """Returns the settings with nested ones under dotted names, such as "augment.mosaic"."""
    flat: JsonDict = {}
    for key, value in config.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _shorten(config: JsonDict, key: str) -> str:
    return str(config[key])[:_SHOWN_CHARACTERS] if key in config else "absent"


def _assign_variables(
    model: keras.Model, arrays: Mapping[str, np.ndarray], saved: Mapping[str, list[list[Any]]], folder: Path
) -> None:
    if not model.optimizer.built:
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)
    groups = {"model": model.variables, "optimizer": model.optimizer.variables}
    for group, variables in groups.items():
        # Paths are not compared: Keras numbers layers without a name again in each process.
        kinds = [entry[1:] for entry in _describe(variables)]
        if [entry[1:] for entry in saved[group]] != kinds:
            raise CheckpointError(
                f"Expected {folder} to fit the {group}'s {len(kinds)} variables, got {len(saved[group])} or "
                "other shapes or types. Build and compile the model as it was when the run began."
            )
    for group, variables in groups.items():
        for name, variable in zip(_names(group, len(variables)), variables, strict=True):
            variable.assign(arrays[name])
