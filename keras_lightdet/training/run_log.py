"""The history of a run as a file: one entry per epoch, the best epoch, and the duration."""

import json
import math
import os
import time
from collections.abc import Mapping
from typing import Any

import keras

from keras_lightdet.files import StrPath, atomic_write


class RunLog(keras.callbacks.Callback):
    """Writes `metrics.json` atomically after every epoch, and continues it in a resumed run.

    Each entry of `epochs` has the epoch (from 1), its seconds, its last learning rate and all logged values. Pass it to
    `TrainingCheckpoint` as a stateful callback and place it after the evaluation in the list. It adds `learning_rate`
    to the logs of the callbacks after it.

    Args:
        path: The file to write.
        best: Name of the logged value, higher being better, that selects the best epoch.
    """

    def __init__(self, path: StrPath, *, best: str = "val_AP50"):
        super().__init__()
        self._path = path
        self._best = best
        self._epochs: list[dict[str, Any]] = []
        self._earlier_seconds = 0.0
        self._began = time.monotonic()

    def get_state(self) -> dict[str, Any]:
        """Returns the history and the seconds spent in the current epoch."""
        return {"epochs": self._epochs, "seconds": self._seconds()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues a saved history and writes it: the file may be an epoch ahead of the checkpoint."""
        self._epochs, self._earlier_seconds = state["epochs"], state["seconds"]
        self._write()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock."""
        self._began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the epoch to the file."""
        logs = logs if logs is not None else {}
        logs["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        values = {name: _finite_or_none(value) for name, value in logs.items()}
        self._epochs.append({"epoch": epoch + 1, "seconds": round(self._seconds(), 3), **values})
        self._earlier_seconds, self._began = 0.0, time.monotonic()
        self._write()

    def best_epoch(self) -> Mapping[str, Any] | None:
        """Returns the entry of the best epoch so far, the first of equals; None if none was evaluated."""
        evaluated = [entry for entry in self._epochs if entry.get(self._best) is not None]
        return max(evaluated, key=lambda entry: entry[self._best], default=None)

    def _seconds(self) -> float:
        return self._earlier_seconds + time.monotonic() - self._began

    def _write(self) -> None:
        best = self.best_epoch()
        summary = {
            "best": best and {"epoch": best["epoch"], self._best: best[self._best]},
            "seconds": round(sum(entry["seconds"] for entry in self._epochs), 3),
            "epochs": self._epochs,
        }
        os.makedirs(os.path.dirname(os.path.abspath(self._path)), exist_ok=True)
        atomic_write(self._path, json.dumps(summary, indent=1) + "\n")


def _finite_or_none(value: float) -> float | None:
    # JSON has no NaN; the metric of a class without objects is NaN.
    return float(value) if math.isfinite(value) else None
