"""Compares a .tflite with the Keras model and with MediaPipe, for `lightdet check`. Imports TensorFlow."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from keras_lightdet.cli.inference import detect_image, evaluate_detector, evaluate_segmenter, segment_image
from keras_lightdet.cli.loading import Segmenter, load_detection_split, load_keras_model, load_segmentation_split
from keras_lightdet.data import DetectionData, SegmentationData
from keras_lightdet.deploy import TFLiteDetector, TFLiteSegmenter
from keras_lightdet.deploy.mediapipe_check import (
    BOX_TOLERANCE,
    compare_detections,
    detect_with_mediapipe,
    in_whole_pixels,
    segment_with_mediapipe,
)
from keras_lightdet.detection import DetectorModel
from keras_lightdet.evaluation import EvaluationResult, class_table
from keras_lightdet.images import read_image, resize_image
from keras_lightdet.segmentation import SegmentationModel
from keras_lightdet.visualization.boxes import SHOWN_SCORE

MEDIAPIPE_IMAGES = 8
MIN_SAME_PIXELS = 0.99  # MediaPipe against the file, and against Keras
MIN_SAME_PIXELS_INT8 = 0.97  # MediaPipe against Keras, of an int8 file


def check_detector(
    detector: TFLiteDetector,
    data_dir: Path,
    format: str,
    weights: Path | None,
    max_drop: float,
    mediapipe_path: Path | None,
) -> list[str]:
    """Prints the figures of a file on the evaluation split of a data set, and returns its faults.

    Args:
        detector: The file.
        data_dir: The data set.
        format: Its format.
        weights: Weights of the Keras model to compare with, if any.
        max_drop: Points of average precision that the file may lose.
        mediapipe_path: The file to run in MediaPipe; None to skip it.
    """
    model = None if weights is None else load_keras_model(weights, DetectorModel)
    data = load_detection_split(data_dir, format, detector.class_names, evaluation=True)
    results = evaluate_detector(detector, data)
    print(f"\n{len(data)} images of {data_dir}:\n{class_table(results['voc07'])}")
    figures = {"tflite": _detection_figures(results)}
    if model is not None:
        figures["keras"] = _detection_figures(evaluate_detector(model, data))
    faults = _compare_figures(figures, ("VOC07 mAP", "COCO AP50"), max_drop)
    if mediapipe_path is not None:
        faults += _compare_detections(mediapipe_path, detector, data)
    return faults


def check_segmenter(
    segmenter: TFLiteSegmenter,
    data_dir: Path,
    weights: Path | None,
    max_drop: float,
    mediapipe_path: Path | None,
    *,
    int8: bool,
) -> list[str]:
    """Prints the figures of a file and returns its faults; `int8` is whether the file is int8, see `check_detector`."""
    model = None if weights is None else load_keras_model(weights, SegmentationModel)
    data = load_segmentation_split(data_dir, segmenter.class_names, evaluation=True)
    result = evaluate_segmenter(segmenter, data)
    print(f"\n{len(data)} images of {data_dir}:\n{class_table(result)}")
    faults = []
    if model is not None:
        figures = {"tflite": result.figures(), "keras": evaluate_segmenter(model, data).figures()}
        faults = _compare_figures(figures, ("mIoU",), max_drop)
    if mediapipe_path is not None:
        faults += _compare_masks(mediapipe_path, segmenter, model, data, int8=int8)
    return faults


def _detection_figures(results: Mapping[str, EvaluationResult]) -> dict[str, float]:
    """Returns the main figures of the metrics, 0..1."""
    coco = results["coco"].figures()
    return {
        "VOC07 mAP": results["voc07"].figures()["mAP"],
        "VOC12 mAP": results["voc"].figures()["mAP"],
        **{f"COCO {name}": coco[name] for name in ("AP", "AP50", "AP75")},
    }


def _compare_figures(figures: Mapping[str, Mapping[str, float]], limited: Sequence[str], max_drop: float) -> list[str]:
    """Prints the figures of the file and of Keras, and returns a fault for each of `limited` that drops too much."""
    print(f"\n{'':16}" + "".join(f"{name:>10}" for name in figures))
    for metric in figures["tflite"]:
        print(f"{metric:16}" + "".join(f"{100 * values[metric]:10.2f}" for values in figures.values()))
    if "keras" not in figures:
        return []
    drops = {metric: 100 * (figures["keras"][metric] - figures["tflite"][metric]) for metric in limited}
    return [
        f"{metric} is {drop:.2f} points below Keras' (at most {max_drop})"
        for metric, drop in drops.items()
        if drop > max_drop
    ]


def _read_some(data: DetectionData | SegmentationData) -> list[np.ndarray]:
    """Returns `MEDIAPIPE_IMAGES` images, spread evenly over a data set."""
    indices = np.linspace(0, len(data) - 1, min(MEDIAPIPE_IMAGES, len(data))).astype(int)
    return [read_image(data.records[index].path) for index in indices]


def _compare_detections(path: Path, detector: TFLiteDetector, data: DetectionData) -> list[str]:
    """Compares the file's detections in some images with those of MediaPipe's ObjectDetector; returns the faults.

    Images at the network's size test the file itself. Images at their own size also show the effect of resizing.
    """
    originals = _read_some(data)
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
        if not compared:
            print(f"warning: no detection has a score of {SHOWN_SCORE} or more, so none was compared. Train longer.")
        if missing and images is resized:
            faults.append(f"MediaPipe lacks {missing} of {compared} detections, or is over {BOX_TOLERANCE} px off")
    return faults


def _compare_masks(
    path: Path, segmenter: TFLiteSegmenter, model: SegmentationModel | None, data: SegmentationData, *, int8: bool
) -> list[str]:
    """Compares MediaPipe's category masks of some images with the file and with Keras; returns the faults."""
    images = [resize_image(image, segmenter.input_size) for image in _read_some(data)]
    masks, class_names = segment_with_mediapipe(path, images)
    faults = [] if class_names == segmenter.class_names else [f"MediaPipe reads the labels {class_names}"]
    references: list[tuple[str, Segmenter, float]] = [("the file", segmenter, MIN_SAME_PIXELS)]
    if model is not None:
        references.append(("Keras", model, MIN_SAME_PIXELS_INT8 if int8 else MIN_SAME_PIXELS))
    for name, reference, minimum in references:
        labels = [segment_image(reference, image) for image in images]
        same = float(np.mean([np.mean(ours == theirs) for ours, theirs in zip(labels, masks, strict=True)]))
        print(f"MediaPipe, images at the network's size: {same:.2%} of the pixels have the class of {name}")
        if same < minimum:
            faults.append(f"MediaPipe gives other classes than {name} in {1 - same:.2%} of the pixels")
    return faults
