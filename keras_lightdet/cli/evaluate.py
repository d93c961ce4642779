"""Evaluate a trained model or a .tflite file on a data set with labels.

    lightdet evaluate --weights out/best.weights.h5 --data-dir my_data
    lightdet evaluate --model detector.tflite --data-dir my_data --split val --output scores.json

Detectors: average precision by the rules of PASCAL VOC 2007, of later VOC challenges and of COCO.
Segmenters: mIoU and accuracy. Classifiers: accuracy, on a folder of images for each class. Without
--split, the split that recipes evaluate on is used.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from keras_lightdet.cli.arguments import (
    BATCH_SIZE,
    add_data_arguments,
    add_model_arguments,
    file_path,
    positive_int,
)
from keras_lightdet.files import atomic_write

if TYPE_CHECKING:
    from keras_lightdet.cli.loading import Detector, Segmenter
    from keras_lightdet.data.detection.records import DetectionData
    from keras_lightdet.data.segmentation.loading import SegmentationData
    from keras_lightdet.evaluation import SegmentationResult
    from keras_lightdet.evaluation.results import EvaluationResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_model_arguments(parser)
    add_data_arguments(parser, required=True, purpose="data set with labels")
    parser.add_argument("--split", help="split to evaluate on (default: the evaluation split)")
    parser.add_argument(
        "--batch-size",
        type=positive_int,
        default=BATCH_SIZE,
        metavar="N",
        help="images per batch (default: %(default)s)",
    )
    parser.add_argument("--output", type=file_path, metavar="FILE", help="also write the scores to this JSON file")


def run(
    *,
    weights: Path | None,
    model: Path | None,
    threads: int,
    data_dir: Path,
    format: str,
    split: str | None,
    batch_size: int,
    output: Path | None,
) -> int:
    """Prints the scores and writes them to `output`."""
    from keras_lightdet.classification import Classifier
    from keras_lightdet.cli.loading import load_detection_split, load_segmentation_split, load_tflite
    from keras_lightdet.data import load_classification
    from keras_lightdet.deploy import TFLiteDetector
    from keras_lightdet.detection import DetectorModel
    from keras_lightdet.evaluation import class_table, evaluate_classification, result_as_data
    from keras_lightdet.models.registry import load_model

    loaded = load_model(weights) if weights is not None else load_tflite(cast(Path, model), threads)
    results: Mapping[str, EvaluationResult]
    if isinstance(loaded, DetectorModel | TFLiteDetector):
        boxes = load_detection_split(data_dir, format, loaded.class_names, evaluation=True, split=split)
        num_images, results = len(boxes), _evaluate_detector(loaded, boxes, batch_size)
    elif isinstance(loaded, Classifier):
        images = load_classification(data_dir, split or "val", class_names=loaded.class_names)
        num_images = len(images.records)
        results = {"classification": evaluate_classification(loaded, images, batch_size)}
    else:
        labels = load_segmentation_split(data_dir, loaded.class_names, evaluation=True, split=split)
        num_images, results = len(labels), {"segmentation": _evaluate_segmenter(loaded, labels, batch_size)}
    print(f"{num_images} images of {data_dir}")
    for name, result in results.items():
        print(f"\n{name}\n{class_table(result)}")
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        scores = {name: result_as_data(result) for name, result in results.items()}
        atomic_write(output, json.dumps(scores, indent=1) + "\n")
        print(f"\nscores {output}")
    return 0


def _evaluate_detector(
    detector: "Detector", data: "DetectionData", batch_size: int
) -> "Mapping[str, EvaluationResult]":
    from keras_lightdet.cli.loading import detect_image
    from keras_lightdet.cli.progress import show_progress
    from keras_lightdet.detection import DetectorModel
    from keras_lightdet.evaluation import predict_detection
    from keras_lightdet.evaluation.detection import DETECTION_METRICS

    if isinstance(detector, DetectorModel):
        detections = predict_detection(detector, data, batch_size)
    else:
        detections = [detect_image(detector, record.path, 0.0) for record in show_progress(data.records, len(data))]
    return {name: evaluate(data, detections) for name, (evaluate, _) in DETECTION_METRICS.items()}


def _evaluate_segmenter(segmenter: "Segmenter", data: "SegmentationData", batch_size: int) -> "SegmentationResult":
    from keras_lightdet.cli.check_segmenter import evaluate_file
    from keras_lightdet.evaluation import evaluate_segmentation
    from keras_lightdet.segmentation import SegmentationModel

    if isinstance(segmenter, SegmentationModel):
        return evaluate_segmentation(segmenter, data, batch_size)
    return evaluate_file(segmenter, data)
