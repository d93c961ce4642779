"""Compares a detector's .tflite with the Keras model and with MediaPipe, for `lightdet check`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_lightdet.cli.arguments import BATCH_SIZE
from keras_lightdet.cli.loading import detect_image, load_detection_split, load_weights
from keras_lightdet.data.detection.records import DetectionData
from keras_lightdet.deploy import TFLiteDetector
from keras_lightdet.deploy.mediapipe_check import (
    BOX_TOLERANCE,
    compare_detections,
    detect_with_mediapipe,
    in_whole_pixels,
)
from keras_lightdet.detection import Detections, DetectorModel
from keras_lightdet.errors import WeightsError
from keras_lightdet.evaluation import class_table, evaluate_coco, evaluate_voc, predict_detection
from keras_lightdet.images import read_image, resize_image
from keras_lightdet.visualization.boxes import SHOWN_SCORE

MEDIAPIPE_IMAGES = 8


def check_detector(
    detector: TFLiteDetector,
    data_dir: Path,
    format: str,
    weights: Path | None,
    max_drop: float,
    mediapipe_path: Path | None,
) -> list[str]:
    """Prints the figures of a file and returns its faults.

    Args:
        detector: The file.
        data_dir: Data set whose evaluation split is used.
        format: Its format.
        weights: Weights of the Keras model to compare with, if any.
        max_drop: Points of average precision that the file may lose.
        mediapipe_path: The file to run in MediaPipe; None to skip it.
    """
    data = load_detection_split(data_dir, format, detector.class_names, evaluation=True)
    detections = [detect_image(detector, record.path, 0.0) for record in data.records]
    print(f"\n{len(detections)} images of {data_dir}:\n{class_table(evaluate_voc(data, detections))}")
    figures = {"tflite": _figures(data, detections)}
    if weights is not None:
        model = load_weights(weights)
        if not isinstance(model, DetectorModel):
            raise WeightsError(f"Expected weights of a detector, got {str(weights)!r}. Give those of the file.")
        figures["keras"] = _figures(data, predict_detection(model, data, BATCH_SIZE))
    print(f"\n{'':12}" + "".join(f"{name:>10}" for name in figures))
    for metric in figures["tflite"]:
        print(f"{metric:12}" + "".join(f"{100 * values[metric]:10.2f}" for values in figures.values()))
    faults = []
    for metric in ("VOC07 mAP", "COCO AP50") if "keras" in figures else ():
        drop = 100 * (figures["keras"][metric] - figures["tflite"][metric])
        if drop > max_drop:
            faults.append(f"{metric} is {drop:.2f} points below Keras' (at most {max_drop})")
    return faults + (_compare_with_mediapipe(mediapipe_path, detector, data) if mediapipe_path else [])


def _figures(data: DetectionData, detections: Sequence[Detections]) -> dict[str, float]:
    """Returns the metrics by name, 0..1."""
    coco = evaluate_coco(data, detections).figures()
    return {
        "VOC07 mAP": evaluate_voc(data, detections).figures()["mAP"],
        "VOC12 mAP": evaluate_voc(data, detections, metric="area").figures()["mAP"],
        **{f"COCO {name}": coco[name] for name in ("AP", "AP50", "AP75")},
    }


def _compare_with_mediapipe(path: Path, detector: TFLiteDetector, data: DetectionData) -> list[str]:
    """Compares the file's detections in some images with those of MediaPipe's ObjectDetector; returns the faults.

    Images at the network's size test the file itself. Images at their own size also show the effect of resizing.
    """
    indices = np.linspace(0, len(data) - 1, min(MEDIAPIPE_IMAGES, len(data))).astype(int)
    originals = [read_image(data.records[index].path) for index in indices]
    resized = [resize_image(image, detector.input_size) for image in originals]
    faults = []
    for kind, images in (("at the network's size", resized), ("at their own size", originals)):
        # Detections below that score are not shown by clients.
        differences = [
            compare_detections(in_whole_pixels(detect_image(detector, image, SHOWN_SCORE)), detections)
            for image, detections in zip(images, detect_with_mediapipe(path, images), strict=True)
        ]
        compared = sum(difference.compared for difference in differences)
        missing = sum(difference.missing for difference in differences)
        distance = max((difference.max_distance for difference in differences), default=0.0)
        print(f"MediaPipe, images {kind}: {compared - missing} of {compared} detections the same", end=", ")
        print(f"corners within {distance:.2f} px")
        if missing and images is resized:
            faults.append(f"MediaPipe lacks {missing} of {compared} detections, or is over {BOX_TOLERANCE} px off")
    return faults
