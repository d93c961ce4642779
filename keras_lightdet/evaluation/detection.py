"""Prediction and evaluation of detectors on a data set."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import tensorflow as tf

from keras_lightdet.data import DetectionData, detection_eval_batches
from keras_lightdet.detection import Detections, DetectorModel, to_detections
from keras_lightdet.evaluation.checks import check_class_names
from keras_lightdet.evaluation.coco import evaluate_coco
from keras_lightdet.evaluation.coco_result import CocoResult
from keras_lightdet.evaluation.voc import VocResult, evaluate_voc

DetectionEvaluator: TypeAlias = Callable[[DetectionData, Sequence[Detections]], CocoResult | VocResult]

# By name of the metric, its evaluator and its main figure.
DETECTION_METRICS: dict[str, tuple[DetectionEvaluator, str]] = {
    "coco": (evaluate_coco, "AP"),
    "voc07": (partial(evaluate_voc, metric="voc07"), "mAP"),
    "voc": (partial(evaluate_voc, metric="area"), "mAP"),
}


def evaluate_detection(
    model: DetectorModel, data: DetectionData, metric: str = "coco", batch_size: int = 8
) -> CocoResult | VocResult:
    """Evaluates a detector on a data set. `keras_lightdet.evaluate` is a short name for it.

    For several metrics of the same predictions call `predict_detection`, then `evaluate_coco` and `evaluate_voc`.

    Args:
        model: The detector.
        data: The labeled images.
        metric: "coco", "voc07" (VOC 2007, 11 points) or "voc" (VOC 2010 and later, area under the curve).
        batch_size: Images per batch.

    Raises:
        ValueError: The metric is unknown.
        DataError: The classes of model and data differ.
        ImportError: pycocotools is not installed and the metric is "coco".
    """
    evaluate_by_metric, _ = metric_of(metric)
    return evaluate_by_metric(data, predict_detection(model, data, batch_size))


def predict_detection(model: DetectorModel, data: DetectionData, batch_size: int = 8) -> list[Detections]:
    """Runs a detector on all images of a data set.

    Images are resized to the network input, as in training and in `detect`, and boxes are scaled back. A file that
    cannot be decoded is logged and replaced by a gray image, so that its objects count as missed.

    Args:
        model: The detector.
        data: The images; their labels are not used.
        batch_size: Images per batch; rounded up to a multiple of the replicas of a distribution strategy.

    Returns:
        One `Detections` per record, in the records' order, in pixels of the images, without the images themselves.

    Raises:
        DataError: The classes of model and data differ.
    """
    check_class_names(model.class_names, data.class_names)
    if not data.records:
        return []
    replicas = model.distribute_strategy.num_replicas_in_sync
    batch_size = replicas * math.ceil(batch_size / replicas)
    images = detection_eval_batches(data, model.input_size, batch_size).map(lambda images, targets: images)
    if replicas > 1:
        # A smaller last batch can leave a replica without images, which networks do not support.
        images = images.map(lambda batch: tf.pad(batch, [[0, batch_size - tf.shape(batch)[0]], *[[0, 0]] * 3]))
    outputs = model.predict(images, verbose=0)
    return [
        to_detections(
            {key: values[i] for key, values in outputs.items()},
            (record.height, record.width),
            model.input_size,
            data.class_names,
        )
        for i, record in enumerate(data.records)
    ]


def metric_of(name: str) -> tuple[DetectionEvaluator, str]:
    """Returns the evaluator and the main figure of a metric; raises a `ValueError` if its name is unknown."""
    if name not in DETECTION_METRICS:
        raise ValueError(f"Expected metric to be one of {tuple(DETECTION_METRICS)}, got {name!r}.")
    return DETECTION_METRICS[name]
