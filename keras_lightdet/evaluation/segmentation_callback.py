"""Scores a segmenter while it trains, and keeps its best weights."""

import os

import keras

from keras_lightdet.data.segmentation_data import SegmentationData
from keras_lightdet.evaluation.segmentation import SegmentationResult, evaluate_segmenter
from keras_lightdet.training.ema import ema_weights
from keras_lightdet.weights import save_weights


class EvaluateSegmenter(keras.callbacks.Callback):
    """Evaluates on a data set at the end of epochs, with the averaged weights where the optimizer keeps them.

    The figures go into the logs as "val_mIoU", "val_pixel_accuracy", ..; callbacks that read logs or save checkpoints
    belong behind this one.

    Attributes:
        result: The last result; None before the first.
        best_score: The best mIoU so far, 0..1; None before the first evaluation.

    Args:
        data: The labelled pictures.
        batch_size: Pictures per batch.
        best_path: The `.weights.h5` file that holds the best weights so far; None keeps none.
        every: Epochs between evaluations; the last epoch is always evaluated.

    Raises:
        ValueError: `every` is not positive.
    """

    monitor = "val_mIoU"

    def __init__(
        self, data: SegmentationData, *, batch_size: int, best_path: str | os.PathLike | None = None, every: int = 1
    ):
        super().__init__()
        if every < 1:
            raise ValueError(f"Expected every to be at least 1 epoch, got {every!r}.")
        self.data, self.batch_size, self.best_path, self.every = data, batch_size, best_path, every
        self.result: SegmentationResult | None = None
        self.best_score: float | None = None

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Evaluates if it is this epoch's turn, adds to the logs, and saves the weights if they are best."""
        if (epoch + 1) % self.every and epoch + 1 != self.params.get("epochs"):
            return
        with ema_weights(self.model):
            self.result = evaluate_segmenter(self.model, self.data, self.batch_size)
            figures = self.result.figures()
            if self.best_score is None or figures["mIoU"] > self.best_score:
                self.best_score = figures["mIoU"]
                if self.best_path is not None:
                    save_weights(self.model, self.best_path)
        if logs is not None:
            logs.update({f"val_{name}": value for name, value in figures.items()})

    def get_state(self) -> dict:
        """Returns what a resumed run must know, as JSON-able data."""
        return {"best_score": self.best_score}

    def set_state(self, state: dict) -> None:
        """Takes up what `get_state` returned; where the file of the best weights is gone, there is none."""
        gone = self.best_path is not None and not os.path.exists(self.best_path)
        self.best_score = None if gone else state["best_score"]
