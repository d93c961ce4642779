"""Scores detectors, segmenters and classifiers while they train, and keeps their best weights."""

import os
from functools import partial

import keras
import numpy as np
import tensorflow as tf

from keras_lightdet.data.detection.records import DetectionData
from keras_lightdet.data.segmentation.loading import SegmentationData
from keras_lightdet.errors import DataError
from keras_lightdet.evaluation.coco import evaluate_coco
from keras_lightdet.evaluation.coco_result import CocoResult
from keras_lightdet.evaluation.prediction import predict_detection
from keras_lightdet.evaluation.segmentation import SegmentationResult, evaluate_segmentation
from keras_lightdet.evaluation.voc import VocResult, evaluate_voc
from keras_lightdet.training.ema import ema_weights
from keras_lightdet.weights import save_weights

# What each metric is computed by, and which of its figures decides what is best.
_METRICS = {
    "coco": (evaluate_coco, "AP"),
    "voc07": (partial(evaluate_voc, metric="voc07"), "mAP"),
    "voc": (partial(evaluate_voc, metric="area"), "mAP"),
}


class KeepBestWeights(keras.callbacks.Callback):
    """Evaluates at the end of epochs, with the averaged weights where the optimizer keeps them.

    The finite figures go into the logs as "val_" and their name, so callbacks that read logs or save checkpoints belong
    behind this one.

    Attributes:
        best_score: The best so far; None before the first evaluation.
        best_epoch: The epoch of it, from 0.

    Args:
        decisive: Name of the figure that decides what is best, higher being better.
        best_path: The `.weights.h5` file that holds the best weights so far; None keeps none.
        every: Epochs between evaluations; the last epoch is always evaluated.

    Raises:
        ValueError: `every` is not positive.
    """

    def __init__(self, decisive: str, *, best_path: str | os.PathLike | None = None, every: int = 1):
        super().__init__()
        if every < 1:
            raise ValueError(f"Expected every to be at least 1 epoch, got {every!r}.")
        self._decisive, self.best_path, self.every = decisive, best_path, every
        self.best_score: float | None = None
        self.best_epoch: int | None = None

    def evaluate(self) -> dict[str, float]:
        """Returns the model's figures by name."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it evaluates.")

    @property
    def monitor(self) -> str:
        """The name in the logs of the figure that decides what is best."""
        return f"val_{self._decisive}"

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Evaluates if it is this epoch's turn, adds to the logs, and saves the weights if they are best."""
        if (epoch + 1) % self.every and epoch + 1 != self.params.get("epochs"):
            return
        with ema_weights(self.model):
            figures = self.evaluate()
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


class EvaluateDetector(KeepBestWeights):
    """Scores a detector by "val_AP", "val_AP50", .. or by "val_mAP".

    Figures without any object to find (such as "val_APsmall") are left out.

    Attributes:
        result: The last `CocoResult` or `VocResult`, with its per-class scores; None before the first.
        detections: What the model answered then, one `Detections` per record; empty before.

    Args:
        data: The labeled images, at least one of them with an object that is not to be ignored.
        metric: "coco", "voc07" (VOC 2007, 11 points) or "voc" (VOC 2010 and later, area). AP (COCO) or mAP (VOC)
            decides what is best.
        batch_size: Images per batch.
        best_path: See `KeepBestWeights`.
        every: See `KeepBestWeights`.

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
        if metric not in _METRICS:
            raise ValueError(f"Expected metric to be one of {tuple(_METRICS)}, got {metric!r}.")
        if all(np.all(record.ignore) for record in data.records):
            raise DataError(
                f"Expected an object to find in the evaluation data, got none in {len(data.records)} images. "
                "Check the split and the class names."
            )
        self._compute, decisive = _METRICS[metric]
        super().__init__(decisive, best_path=best_path, every=every)
        self.data, self.batch_size = data, batch_size
        self.result: CocoResult | VocResult | None = None
        self.detections = []

    def evaluate(self) -> dict[str, float]:
        """Returns the figures of the metric."""
        self.detections = predict_detection(self.model, self.data, self.batch_size)
        self.result = self._compute(self.data, self.detections)
        return self.result.figures()


class EvaluateSegmenter(KeepBestWeights):
    """Scores a segmenter by "val_mIoU", which decides what is best, "val_pixel_accuracy", ..

    Attributes:
        result: The last result; None before the first.

    Args:
        data: The labeled images.
        batch_size: Images per batch.
        best_path: See `KeepBestWeights`.
        every: See `KeepBestWeights`.

    Raises:
        ValueError: `every` is not positive.
    """

    def __init__(
        self, data: SegmentationData, *, batch_size: int, best_path: str | os.PathLike | None = None, every: int = 1
    ):
        super().__init__("mIoU", best_path=best_path, every=every)
        self.data, self.batch_size = data, batch_size
        self.result: SegmentationResult | None = None

    def evaluate(self) -> dict[str, float]:
        """Returns mIoU and pixel accuracy."""
        self.result = evaluate_segmentation(self.model, self.data, self.batch_size)
        return self.result.figures()


class EvaluateClassifier(KeepBestWeights):
    """Scores a classifier by its loss and its compiled metrics: "val_loss", "val_accuracy", ..

    Args:
        batches: One pass over the images to score on.
        best_path: See `KeepBestWeights`; the model has `architecture` and `class_names`, as classifiers of
            `keras_lightdet.backbones` do.
        metric: Name of the compiled metric that decides what is best, higher being better.
    """

    def __init__(self, batches: tf.data.Dataset, *, best_path: str | os.PathLike, metric: str = "accuracy"):
        super().__init__(metric, best_path=best_path)
        self.batches = batches

    def evaluate(self) -> dict[str, float]:
        """Returns the loss and the metrics."""
        return self.model.evaluate(self.batches, verbose=0, return_dict=True)
