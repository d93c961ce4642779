"""The history of a run as a file: one entry per epoch, the best one, and the time it took."""

import json
import math
import os
import time
from collections.abc import Mapping

import keras

from keras_lightdet.files import atomic_write


class RunLog(keras.callbacks.Callback):
    """Keeps `metrics.json`, rewritten in one step after every epoch, and carries it over a restart.

    Each entry of `epochs` has the epoch (from 1), its seconds, the learning rate it ended with and all it
    logged. It is a stateful callback of `TrainingCheckpoint` and stands behind the evaluation in the list;
    behind it, `logs` has `learning_rate` too.

    Args:
        path: The file to write.
        best: The logged value, higher being better, whose best epoch the file names.
    """

    def __init__(self, path: str | os.PathLike, *, best: str = "val_AP50"):
        super().__init__()
        self._path = path
        self._best = best
        self._epochs: list[dict] = []
        self._earlier_seconds = 0.0
        self._began = time.monotonic()

    def get_state(self) -> dict:
        """Returns the history and the seconds spent in the epoch under way."""
        return {"epochs": self._epochs, "seconds": self._seconds()}

    def set_state(self, state: dict):
        """Goes on from a saved history, and writes it: the file may be an epoch ahead of the checkpoint."""
        self._epochs, self._earlier_seconds = state["epochs"], state["seconds"]
        self._write()

    def on_epoch_begin(self, epoch: int, logs=None):
        """Starts the clock."""
        self._began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs=None):
        """Adds the epoch to the file."""
        logs = logs if logs is not None else {}
        logs["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        values = {name: _number(value) for name, value in logs.items()}
        self._epochs.append({"epoch": epoch + 1, "seconds": round(self._seconds(), 3), **values})
        self._earlier_seconds, self._began = 0.0, time.monotonic()
        self._write()

    def best_epoch(self) -> Mapping | None:
        """Returns the entry of the best epoch so far, the first of equals; None where nothing was scored."""
        scored = [entry for entry in self._epochs if entry.get(self._best) is not None]
        return max(scored, key=lambda entry: entry[self._best], default=None)

    def _seconds(self) -> float:
        return self._earlier_seconds + time.monotonic() - self._began

    def _write(self):
        best = self.best_epoch()
        summary = {
            "best": best and {"epoch": best["epoch"], self._best: best[self._best]},
            "seconds": round(sum(entry["seconds"] for entry in self._epochs), 3),
            "epochs": self._epochs,
        }
        os.makedirs(os.path.dirname(os.path.abspath(self._path)), exist_ok=True)
        atomic_write(self._path, json.dumps(summary, indent=1) + "\n")


def _number(value: float) -> float | None:
    # JSON has no NaN; a score is NaN where a class has nothing to find.
    return float(value) if math.isfinite(value) else None
