"""Scores a detector while it trains, and keeps its best weights."""

import os
from functools import partial

import keras
import numpy as np

from keras_lightdet.data.records import DetectionData
from keras_lightdet.errors import DataError
from keras_lightdet.evaluation.coco import evaluate_coco
from keras_lightdet.evaluation.coco_result import CocoResult
from keras_lightdet.evaluation.prediction import predict_data
from keras_lightdet.evaluation.voc import VocResult, evaluate_voc
from keras_lightdet.training.ema import ema_weights
from keras_lightdet.weights import save_weights

# What each metric is computed by, and which of its figures decides what is best.
_METRICS = {
    "coco": (evaluate_coco, "AP"),
    "voc07": (partial(evaluate_voc, metric="voc07"), "mAP"),
    "voc": (partial(evaluate_voc, metric="area"), "mAP"),
}


class EvaluateDetector(keras.callbacks.Callback):
    """Evaluates on a data set at the end of epochs, with the averaged weights where the optimizer keeps them.

    The figures go into the logs as "val_AP", "val_AP50", .. or "val_mAP", so callbacks that read logs or save
    checkpoints belong behind this one. Figures without any object to find (such as "val_APsmall") are left
    out.

    Attributes:
        result: The last `CocoResult` or `VocResult`, with its per-class scores; None before the first.
        detections: What the model answered then, one `Detections` per record; empty before.
        best_score: The best AP (COCO) or mAP (VOC) so far, 0..1; None before the first evaluation.
        best_epoch: The epoch of it, from 0.

    Args:
        data: The labelled pictures, at least one of them with an object that is not to be ignored.
        metric: "coco", "voc07" (VOC 2007, 11 points) or "voc" (VOC 2010 and later, area).
        batch_size: Pictures per batch.
        best_path: The `.weights.h5` file that holds the best weights so far; None keeps none.
        every: Epochs between evaluations; the last epoch is always evaluated.

    Raises:
        ValueError: The metric is unknown or `every` is not positive.
        DataError: The data have no object to find.
    """

    def __init__(
        self,
        data: DetectionData,
        *,
        metric: str,
        batch_size: int,
        best_path: str | os.PathLike | None = None,
        every: int = 1,
    ):
        super().__init__()
        if metric not in _METRICS:
            raise ValueError(f"Expected metric to be one of {tuple(_METRICS)}, got {metric!r}.")
        if every < 1:
            raise ValueError(f"Expected every to be at least 1 epoch, got {every!r}.")
        if all(np.all(record.ignore) for record in data.records):
            raise DataError(
                f"Expected an object to find in the evaluation data, got none in {len(data.records)} pictures. "
                "Check the split and the class names."
            )
        self.data = data
        self.batch_size = batch_size
        self.best_path = best_path
        self.every = every
        self._evaluate, self._decisive = _METRICS[metric]
        self.result: CocoResult | VocResult | None = None
        self.detections = []
        self.best_score: float | None = None
        self.best_epoch: int | None = None

    @property
    def monitor(self) -> str:
        """The name in the logs of the figure that decides what is best."""
        return f"val_{self._decisive}"

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Evaluates if it is this epoch's turn, adds to the logs, and saves the weights if they are best."""
        is_last = epoch + 1 == self.params.get("epochs")
        if (epoch + 1) % self.every and not is_last:
            return
        with ema_weights(self.model):
            self.detections = predict_data(self.model, self.data, self.batch_size)
            self.result = self._evaluate(self.data, self.detections)
            figures = self.result.figures()
            score = figures[self._decisive]
            if self.best_score is None or score > self.best_score:
                self.best_score, self.best_epoch = score, epoch
                if self.best_path is not None:
                    save_weights(self.model, self.best_path)
        if logs is not None:
            logs.update({f"val_{name}": value for name, value in figures.items() if np.isfinite(value)})

    def get_state(self) -> dict:
        """Returns what a resumed run must know, as JSON-able data."""
        return {"best_score": self.best_score, "best_epoch": self.best_epoch}

    def set_state(self, state: dict) -> None:
        """Takes up what `get_state` returned; where the file of the best weights is gone, there is none."""
        if self.best_path is not None and not os.path.exists(self.best_path):
            state = {"best_score": None, "best_epoch": None}
        self.best_score, self.best_epoch = state["best_score"], state["best_epoch"]
