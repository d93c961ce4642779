"""Stops a run whose loss or gradient is no longer a number, before anything is damaged."""

import keras
import numpy as np

from keras_lightdet.data.detection.records import DetectionData
from keras_lightdet.errors import NonFiniteLossError

_NAMED_IMAGES = 16


class StopOnNonFinite(keras.callbacks.Callback):
    """Ends the training of a detector within one step of a NaN or infinite loss or gradient, and names the images.

    The detector itself uses no gradient of such a step or a later one, sets `halted` and remembers the batch's
    `halted_sources`; this callback turns that into an error. So the weights stay finite, and no checkpoint is
    written after the last sound step. It stands before all callbacks that save. For a
    plain `keras.Model` use `RaiseOnNonFinite`.

    Args:
        data: The training data, whose records the batches' `sources` point into.
    """

    def __init__(self, data: DetectionData):
        super().__init__()
        self._data = data
        self._epoch = 0

    def on_train_begin(self, logs=None):
        """Lets a model that was halted by an earlier run train again."""
        self.model.halted.assign(False)
        self.model.halted_sources.assign(np.full(self.model.halted_sources.shape, -1, np.int32))

    def on_epoch_begin(self, epoch: int, logs=None):
        """Remembers the epoch for the message."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs=None):
        """Looks at the detector's flag.

        Raises:
            NonFiniteLossError: If a step was halted; it names the epoch, the batch and the images.
        """
        if not keras.ops.convert_to_numpy(self.model.halted):
            return
        sources = np.unique(keras.ops.convert_to_numpy(self.model.halted_sources))
        paths = [self._data.records[index].path for index in sources if index >= 0]
        named = "".join(f"\n  {path}" for path in paths[:_NAMED_IMAGES])
        more = f"\n  and {len(paths) - _NAMED_IMAGES} more" if len(paths) > _NAMED_IMAGES else ""
        raise NonFiniteLossError(
            f"Expected a finite loss and gradient, got NaN or infinity in epoch {self._epoch + 1}, at batch "
            f"{batch + 1} or within the same execution. The checkpoints are of before that step. Check these images "
            f"and their labels; if they are sound, lower the learning rate or clip gradients:{named}{more}"
        )


class RaiseOnNonFinite(keras.callbacks.Callback):
    """Ends the training of a plain `keras.Model` at a NaN or infinite loss, before callbacks behind it save anything.

    Keras' own `TerminateOnNaN` can raise since 3.13 alone, and Python 3.10 has no later one than 3.12.
    """

    def on_train_batch_end(self, batch: int, logs=None):
        """Looks at the loss.

        Raises:
            NonFiniteLossError: If it is no number; it names the batch.
        """
        loss = (logs or {}).get("loss")
        if loss is not None and not np.isfinite(loss):
            raise NonFiniteLossError(
                f"Expected a finite loss, got {loss} at batch {batch + 1}. The checkpoints are of before that step. Do "
                "lower the learning rate or clip gradients."
            )
