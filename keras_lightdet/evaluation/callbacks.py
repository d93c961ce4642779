"""Callbacks that evaluate detectors, segmenters and classifiers during training, and keep their best weights."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_lightdet.data import DetectionData, SegmentationData
from keras_lightdet.detection import Detections
from keras_lightdet.errors import DataError
from keras_lightdet.evaluation.coco_result import CocoResult
from keras_lightdet.evaluation.detection import metric_of, predict_detection
from keras_lightdet.evaluation.segmentation import SegmentationResult, evaluate_segmentation
from keras_lightdet.evaluation.voc import VocResult
from keras_lightdet.files import StrPath, expand_user
from keras_lightdet.training.ema import ema_weights
from keras_lightdet.weights import save_weights


class KeepBestWeights(keras.callbacks.Callback):
    """Evaluates at the end of epochs, with the averaged weights if the optimizer has them.

    Finite figures are added to the logs as "val_" and their name, so callbacks that read logs or save checkpoints come
    after this one.

    Attributes:
        best_score: The best value of `monitor`; None before the first evaluation.
        best_epoch: The epoch of it, from 0.

    Args:
        monitor: Name in the logs of the figure that selects the best weights, such as "val_mAP"; higher is better.
        best_path: The `.weights.h5` file of the best weights; None writes none.
        evaluate_every: Epochs between evaluations; the last epoch is always evaluated.

    Raises:
        ValueError: `evaluate_every` is not positive, or, at the first evaluation, `monitor` is not one of the figures.
    """

    def __init__(self, monitor: str, *, best_path: StrPath | None = None, evaluate_every: int = 1):
        super().__init__()
        if evaluate_every < 1:
            raise ValueError(f"Expected evaluate_every to be at least 1 epoch, got {evaluate_every!r}.")
        self.monitor, self.evaluate_every = monitor, evaluate_every
        self.best_path = None if best_path is None else expand_user(best_path)
        self.best_score: float | None = None
        self.best_epoch: int | None = None

    def evaluate(self) -> Mapping[str, float]:
        """Returns the model's figures by name, without "val_"."""
        raise NotImplementedError(f"Expected {type(self).__name__} to define evaluate(), got none. Define it.")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Evaluates if it is due, adds the figures to the logs, and saves the weights if they are the best."""
        if (epoch + 1) % self.evaluate_every and epoch + 1 != self.params.get("epochs"):
            return
        with ema_weights(self.model):
            figures = {f"val_{name}": value for name, value in self.evaluate().items()}
            if self.monitor not in figures:
                raise ValueError(f"Expected monitor to be one of {sorted(figures)}, got {self.monitor!r}.")
            score = figures[self.monitor]
            if self.best_score is None or np.isnan(self.best_score) or score > self.best_score:
                self.best_score, self.best_epoch = score, epoch
                if self.best_path is not None:
                    save_weights(self.model, self.best_path)
        if logs is not None:
            logs.update({name: value for name, value in figures.items() if np.isfinite(value)})

    def get_state(self) -> dict[str, Any]:
        """Returns the state for a resumed run, as JSON-able data."""
        return {"best_score": self.best_score, "best_epoch": self.best_epoch}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restores the state that `get_state` returned; without the file of the best weights there is no best score."""
        if self.best_path is not None and not self.best_path.exists():
            state = {"best_score": None, "best_epoch": None}
        self.best_score, self.best_epoch = state["best_score"], state["best_epoch"]


class EvaluateDetector(KeepBestWeights):
    """Evaluates a detector: "val_AP", "val_AP50", .. or "val_mAP".

    Figures without objects (such as "val_APsmall") are omitted.

    Attributes:
        result: The last `CocoResult` or `VocResult`; None before the first evaluation.
        detections: The last predictions, one `Detections` per record.

    Args:
        data: The labeled images; at least one has an object that is not ignored.
        metric: "coco", "voc07" (VOC 2007, 11 points) or "voc" (VOC 2010 and later, area). AP (COCO) or mAP (VOC)
            selects the best weights.
        batch_size: Images per batch.
        **options: `best_path` and `evaluate_every`; see `KeepBestWeights`.

    Raises:
        ValueError: The metric is unknown.
        DataError: The data have no objects.
    """

    def __init__(self, data: DetectionData, *, metric: str, batch_size: int, **options: Any):
        self._evaluate_by_metric, main_figure = metric_of(metric)
        if all(np.all(record.ignore) for record in data.records):
            raise DataError(
                f"Expected an object in the evaluation data that is not ignored, got none in {len(data.records)} "
                "images. Check the split and the class names."
            )
        super().__init__(f"val_{main_figure}", **options)
        self.data, self.batch_size = data, batch_size
        self.result: CocoResult | VocResult | None = None
        self.detections: list[Detections] = []

    def evaluate(self) -> dict[str, float]:
        """Returns the figures of the metric."""
        self.detections = predict_detection(self.model, self.data, self.batch_size)
        self.result = self._evaluate_by_metric(self.data, self.detections)
        return self.result.figures()


class EvaluateSegmenter(KeepBestWeights):
    """Evaluates a segmenter: "val_mIoU", which selects the best weights, "val_pixel_accuracy" and "val_class_accuracy".

    Attributes:
        result: The last result; None before the first evaluation.

    Args:
        data: The labeled images.
        batch_size: Images per batch.
        **options: `best_path` and `evaluate_every`; see `KeepBestWeights`.
    """

    def __init__(self, data: SegmentationData, *, batch_size: int, **options: Any):
        super().__init__("val_mIoU", **options)
        self.data, self.batch_size = data, batch_size
        self.result: SegmentationResult | None = None

    def evaluate(self) -> dict[str, float]:
        """Returns mIoU and accuracies."""
        self.result = evaluate_segmentation(self.model, self.data, self.batch_size)
        return self.result.figures()


class EvaluateClassifier(KeepBestWeights):
    """Evaluates a classifier's loss and compiled metrics: "val_loss", "val_accuracy", ..

    Args:
        batches: One pass over the images to evaluate on.
        monitor: See `KeepBestWeights`.
        **options: `best_path` and `evaluate_every`; see `KeepBestWeights`. To save weights, the model must have
            `architecture` and `class_names`, as a `Classifier`.
    """

    def __init__(self, batches: tf.data.Dataset, *, monitor: str = "val_accuracy", **options: Any):
        super().__init__(monitor, **options)
        self.batches = batches

    def evaluate(self) -> dict[str, float]:
        """Returns the loss and the metrics."""
        return self.model.evaluate(self.batches, verbose=0, return_dict=True)
