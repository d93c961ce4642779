"""Runs and evaluates models of Keras and of .tflite files alike. Imports TensorFlow."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np

from keras_lightdet.classification import Classifier
from keras_lightdet.cli.arguments import BATCH_SIZE
from keras_lightdet.cli.loading import Detector, Segmenter, load_detection_split, load_segmentation_split
from keras_lightdet.cli.progress import show_progress
from keras_lightdet.data import DetectionData, SegmentationData, load_classification
from keras_lightdet.deploy import TFLiteDetector
from keras_lightdet.detection import Detections, DetectorModel
from keras_lightdet.evaluation import (
    EvaluationResult,
    SegmentationResult,
    evaluate_classification,
    evaluate_segmentation,
    predict_detection,
)
from keras_lightdet.evaluation.detection import DETECTION_METRICS
from keras_lightdet.evaluation.segmentation import count_confusion
from keras_lightdet.images import ImageInput
from keras_lightdet.segmentation import SegmentationModel


def detect_image(detector: Detector, image: ImageInput, score_threshold: float) -> Detections:
    """Returns the detections of one image, without its pixels, so that those of many images fit into memory."""
    detections = cast(Detections, detector.detect(image, score_threshold))
    return dataclasses.replace(detections, image=None)


def segment_image(segmenter: Segmenter, image: ImageInput) -> np.ndarray:
    """Returns the label of each pixel of one image, uint8 `[H, W]`."""
    return cast(np.ndarray, segmenter.segment(image))


def evaluate_detector(
    detector: Detector, data: DetectionData, batch_size: int = BATCH_SIZE
) -> dict[str, EvaluationResult]:
    """Evaluates a detector on a data set by every metric; a .tflite runs without batches."""
    if isinstance(detector, DetectorModel):
        detections = predict_detection(detector, data, batch_size)
    else:
        detections = [detect_image(detector, record.path, 0.0) for record in show_progress(data.records, len(data))]
    return {name: evaluate(data, detections) for name, (evaluate, _) in DETECTION_METRICS.items()}


def evaluate_segmenter(
    segmenter: Segmenter, data: SegmentationData, batch_size: int = BATCH_SIZE
) -> SegmentationResult:
    """Evaluates a segmenter on a data set; a .tflite runs without batches."""
    if isinstance(segmenter, SegmentationModel):
        return evaluate_segmentation(segmenter, data, batch_size)
    count = len(data.class_names)
    confusion = np.zeros((count, count), np.int64)
    for index, record in enumerate(show_progress(data.records, len(data))):
        confusion += count_confusion(data.read_labels(index), segment_image(segmenter, record.path), count)
    return SegmentationResult(data.class_names, confusion)


def evaluate_model(
    model: Detector | Segmenter | Classifier, data_dir: Path, format: str, split: str | None, batch_size: int
) -> tuple[int, Mapping[str, EvaluationResult]]:
    """Returns the number of images in a split of a data set, and the results on them by metric."""
    if isinstance(model, Classifier):
        images = load_classification(data_dir, split or "val", class_names=model.class_names)
        return len(images.records), {"classification": evaluate_classification(model, images, batch_size)}
    if isinstance(model, DetectorModel | TFLiteDetector):
        boxes = load_detection_split(data_dir, format, model.class_names, evaluation=True, split=split)
        return len(boxes), evaluate_detector(model, boxes, batch_size)
    labels = load_segmentation_split(data_dir, model.class_names, evaluation=True, split=split)
    return len(labels), {"segmentation": evaluate_segmenter(model, labels, batch_size)}
