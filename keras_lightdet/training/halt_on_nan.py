"""HaltOnNaN: ends a run at the first non-finite loss or gradient, before weights or checkpoints are damaged."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import keras
import numpy as np

from keras_lightdet.errors import NonFiniteLossError

_MAX_PATHS = 16


class LabeledImages(Protocol):
    """A data set whose records have a `path`."""

    @property
    def records(self) -> Sequence[Any]:
        """The records, in the order that the batches' `sources` index."""


class HaltOnNaN(keras.callbacks.Callback):
    """Raises an error within one step of a NaN or infinite loss, and names the images where the model knows them.

    A `BaseModel` applies no gradient of the faulty step or a later one, sets `halted` and stores the batch's
    `halted_sources`, so the weights stay finite. Of any other `keras.Model` the logged loss is checked. Place this
    callback before all callbacks that save: then no checkpoint is written after the last valid step.

    Keras' own `TerminateOnNaN` raises an error only from Keras 3.13 on, which Python 3.10 does not have.

    Args:
        data: The training data, whose records the batches' `sources` index. `None` names no images.
    """

    def __init__(self, data: LabeledImages | None = None):
        super().__init__()
        self._data = data
        self._epoch = 0

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Clears the state of a model that an earlier run halted."""
        if _has_flag(self.model):
            self.model.halted.assign(False)
            self.model.halted_sources.assign(np.full(self.model.halted_sources.shape, -1, np.int32))

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Stores the epoch for the message."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Checks the model's flag, or the loss of a model without one.

        Raises:
            NonFiniteLossError: If a loss or gradient was not finite; it names the epoch, the batch and the images.
        """
        if _has_flag(self.model):
            is_finite = not keras.ops.convert_to_numpy(self.model.halted)
        else:
            is_finite = bool(np.isfinite((logs or {}).get("loss", 0.0)))
        if not is_finite:
            raise NonFiniteLossError(
                f"Expected a finite loss and gradient, got NaN or infinity in epoch {self._epoch + 1}, at batch "
                f"{batch + 1} or within the same execution. The checkpoints are from before that step. {self._cure()}"
            )

    def _cure(self) -> str:
        """Returns what to do, and the paths of the halted batch as lines of text."""
        paths = []
        if self._data is not None and _has_flag(self.model):
            sources = np.unique(keras.ops.convert_to_numpy(self.model.halted_sources))
            paths = [self._data.records[index].path for index in sources if index >= 0]
        if not paths:
            return "Lower the learning rate or clip gradients."
        lines = [f"\n  {path}" for path in paths[:_MAX_PATHS]]
        lines += [f"\n  and {len(paths) - _MAX_PATHS} more"] if len(paths) > _MAX_PATHS else []
        return (
            "Check these images and their labels; if they are valid, lower the learning rate or clip gradients:"
            + "".join(lines)
        )


def _has_flag(model: keras.Model) -> bool:
    return hasattr(model, "halted")
