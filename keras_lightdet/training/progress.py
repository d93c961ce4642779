"""What a person sees while a run trains: a line per epoch, and a moving one within it."""

import shutil
import sys
import time
from collections.abc import Mapping
from typing import TextIO

import keras

_MOVES_PER_SECOND = 4


class ProgressLines(keras.callbacks.Callback):
    """Writes epoch, losses, scores, learning rate, seconds, and the time that the whole run still needs.

    On a terminal a line moves within the epoch; elsewhere a line is added every so many seconds. It stands
    behind the evaluation in the list, whose scores it shows. Fit with `verbose=0`.

    Args:
        seconds_between_lines: The time between lines within an epoch where the stream is no terminal.
        stream: Where to write; None is standard output.
    """

    def __init__(self, *, seconds_between_lines: float = 30, stream: TextIO | None = None):
        super().__init__()
        self._stream = stream or sys.stdout
        self._moving = self._stream.isatty()
        self._interval = 1 / _MOVES_PER_SECOND if self._moving else seconds_between_lines
        self._width = 0
        self._epoch = 0
        self._steps_timed = 0
        self._timed_since: float | None = None
        self._last_batch = -1

    def on_epoch_begin(self, epoch: int, logs=None):
        """Starts the epoch's clock."""
        self._epoch = epoch
        self._epoch_began = self._shown_at = time.monotonic()

    def on_train_batch_begin(self, batch: int, logs=None):
        """Notes the batch before, with which a resumed epoch does not begin at 0."""
        self._last_batch = batch - 1

    def on_train_batch_end(self, batch: int, logs=None):
        """Shows the place within the epoch, when it is time."""
        now = time.monotonic()
        if self._timed_since is None:
            self._timed_since = now  # The first step is left out of the time per step: it compiles.
        else:
            self._steps_timed += batch - self._last_batch
        if now - self._shown_at >= self._interval:
            self._shown_at = now
            place = f"{batch + 1}/{self.params['steps'] or '?'}"
            self._show([self._head(), place, *_named(logs), self._left(batch + 1, now)], stays=False)

    def on_epoch_end(self, epoch: int, logs=None):
        """Writes the epoch's line."""
        now = time.monotonic()
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        values = _named({**(logs or {}), "learning_rate": rate})
        seconds = f"{now - self._epoch_began:.0f} s"
        self._show([self._head(), *values, seconds, self._left(self.params["steps"], now)], stays=True)

    def _head(self) -> str:
        return f"epoch {self._epoch + 1}/{self.params['epochs']}"

    def _left(self, batches_done: int | None, now: float) -> str:
        if not self.params["steps"] or not self._steps_timed:
            return "ETA ?"
        steps_left = (self.params["epochs"] - self._epoch) * self.params["steps"] - batches_done
        return f"ETA {_duration(steps_left * (now - self._timed_since) / self._steps_timed)}"

    def _show(self, parts: list[str], *, stays: bool):
        line = "  ".join(parts)
        if not self._moving:
            self._stream.write(line + "\n")
        else:
            if not stays:  # A line that wraps cannot be moved.
                line = line[: shutil.get_terminal_size().columns - 1]
            self._stream.write("\r" + line.ljust(self._width) + ("\n" if stays else ""))
            self._width = 0 if stays else len(line)
        self._stream.flush()


def _named(logs: Mapping[str, float] | None) -> list[str]:
    shown = {name.removeprefix("val_").replace("_", " "): value for name, value in (logs or {}).items()}
    return [f"{name} {value:.4g}" for name, value in shown.items()]


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
