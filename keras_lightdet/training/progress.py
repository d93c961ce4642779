"""Progress of a run for people: a line per epoch, and an updated line within it."""

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import keras

_UPDATES_PER_SECOND = 4


class ProgressLines(keras.callbacks.Callback):
    """Prints the epoch, losses, metrics, learning rate, seconds, and the estimated time to the end of the run.

    On a terminal a line is updated within the epoch; elsewhere a line is added at an interval. Place it after the
    evaluation in the list, whose metrics it prints. Fit with `verbose=0`.

    Args:
        seconds_between_lines: Interval of the lines within an epoch if the stream is not a terminal.
        stream: Stream to write to; None is standard output.
    """

    def __init__(self, *, seconds_between_lines: float = 30, stream: TextIO | None = None):
        super().__init__()
        self._stream = stream or sys.stdout
        self._is_terminal = self._stream.isatty()
        self._interval = 1 / _UPDATES_PER_SECOND if self._is_terminal else seconds_between_lines
        self._width = 0
        self._epoch = 0
        self._epoch_began = self._shown_at = time.monotonic()
        self._steps_timed = 0
        self._timed_since: float | None = None
        self._last_batch = -1

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Starts the clock of the epoch."""
        self._epoch = epoch
        self._epoch_began = self._shown_at = time.monotonic()

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Stores the previous batch: a resumed epoch does not begin at 0."""
        self._last_batch = batch - 1

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Prints the position within the epoch if the interval has passed."""
        now = time.monotonic()
        if self._timed_since is None:
            self._timed_since = now  # the first step compiles and is left out of the time per step
        else:
            self._steps_timed += batch - self._last_batch
        if now - self._shown_at >= self._interval:
            self._shown_at = now
            position = f"{batch + 1}/{self.params['steps'] or '?'}"
            self._print([self._head(), position, *_format(logs), self._remaining(batch + 1, now)], is_final=False)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Prints the line of the epoch."""
        now = time.monotonic()
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        values = _format({**(logs or {}), "learning_rate": rate})
        seconds = f"{now - self._epoch_began:.0f} s"
        self._print([self._head(), *values, seconds, self._remaining(self.params["steps"], now)], is_final=True)

    def _head(self) -> str:
        return f"epoch {self._epoch + 1}/{self.params['epochs']}"

    def _remaining(self, batches_done: int, now: float) -> str:
        if not self.params["steps"] or not self._steps_timed or self._timed_since is None:
            return "ETA ?"
        steps_left = (self.params["epochs"] - self._epoch) * self.params["steps"] - batches_done
        return f"ETA {_duration(steps_left * (now - self._timed_since) / self._steps_timed)}"

    def _print(self, fields: Sequence[str], *, is_final: bool) -> None:
        line = "  ".join(fields)
        if not self._is_terminal:
            self._stream.write(line + "\n")
        else:
            if not is_final:  # a wrapped line cannot be overwritten
                line = line[: shutil.get_terminal_size().columns - 1]
            self._stream.write("\r" + line.ljust(self._width) + ("\n" if is_final else ""))
            self._width = 0 if is_final else len(line)
        self._stream.flush()


def _format(logs: Mapping[str, float] | None) -> list[str]:
    values = {name.removeprefix("val_").replace("_", " "): value for name, value in (logs or {}).items()}
    return [f"{name} {value:.4g}" for name, value in values.items()]


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
