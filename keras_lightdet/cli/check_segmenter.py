"""Compares a segmenter's .tflite with the Keras model and with MediaPipe, for `lightdet check`."""

from pathlib import Path

import numpy as np

from keras_lightdet.cli.loading import load_segmentation_split, load_weights, segment_image
from keras_lightdet.data.segmentation.loading import SegmentationData
from keras_lightdet.deploy import TFLiteSegmenter
from keras_lightdet.deploy.mediapipe_check import segment_with_mediapipe
from keras_lightdet.errors import WeightsError
from keras_lightdet.evaluation import SegmentationResult, class_table, evaluate_segmentation
from keras_lightdet.evaluation.segmentation import count_confusion
from keras_lightdet.images import read_image, resize_image
from keras_lightdet.segmentation import SegmentationModel

MEDIAPIPE_IMAGES = 8
MIN_SAME_PIXELS = 0.99  # MediaPipe against the file, and against Keras
MIN_SAME_PIXELS_INT8 = 0.97  # MediaPipe against Keras, of an int8 file


def check_segmenter(
    segmenter: TFLiteSegmenter,
    data_dir: Path,
    weights: Path | None,
    max_drop: float,
    mediapipe_path: Path | None,
    *,
    int8: bool,
) -> list[str]:
    """Prints the figures of a file and returns its faults.

    Args:
        segmenter: The file.
        data_dir: Data set whose evaluation split is used.
        weights: Weights of the Keras model to compare with, if any.
        max_drop: Points of mIoU that the file may lose.
        mediapipe_path: The file to run in MediaPipe; None to skip it.
        int8: Whether the file is int8.
    """
    data = load_segmentation_split(data_dir, segmenter.class_names, evaluation=True)
    model = None if weights is None else load_weights(weights)
    if not (model is None or isinstance(model, SegmentationModel)):
        raise WeightsError(f"Expected weights of a segmenter, got {str(weights)!r}. Give those of the file.")
    result = evaluate_file(segmenter, data)
    print(f"\n{len(data)} images of {data_dir}:\n{class_table(result)}")
    faults = []
    if model is not None:
        figures, keras_figures = result.figures(), evaluate_segmentation(model, data).figures()
        print(f"\n{'':16}{'tflite':>10}{'keras':>10}")
        for name, value in figures.items():
            print(f"{name:16}{100 * value:10.2f}{100 * keras_figures[name]:10.2f}")
        drop = 100 * (keras_figures["mIoU"] - figures["mIoU"])
        if drop > max_drop:
            faults.append(f"mIoU is {drop:.2f} points below Keras' (at most {max_drop})")
    if mediapipe_path is not None:
        faults += _compare_with_mediapipe(mediapipe_path, segmenter, model, data, int8=int8)
    return faults


def evaluate_file(segmenter: TFLiteSegmenter, data: SegmentationData) -> SegmentationResult:
    """Evaluates a .tflite on a data set."""
    count = len(data.class_names)
    confusion = np.zeros((count, count), np.int64)
    for index, record in enumerate(data.records):
        confusion += count_confusion(data.read_labels(index), segment_image(segmenter, record.path), count)
    return SegmentationResult(data.class_names, confusion)


def _compare_with_mediapipe(
    path: Path, segmenter: TFLiteSegmenter, model: SegmentationModel | None, data: SegmentationData, *, int8: bool
) -> list[str]:
    """Compares MediaPipe's category masks of some images with the file and with Keras; returns the faults."""
    indices = np.linspace(0, len(data) - 1, min(MEDIAPIPE_IMAGES, len(data))).astype(int)
    images = [resize_image(read_image(data.records[index].path), segmenter.input_size) for index in indices]
    masks, class_names = segment_with_mediapipe(path, images)
    faults = [] if class_names == segmenter.class_names else [f"MediaPipe reads the labels {class_names}"]
    references: list[tuple[str, TFLiteSegmenter | SegmentationModel, float]] = [
        ("the file", segmenter, MIN_SAME_PIXELS)
    ]
    if model is not None:
        references.append(("Keras", model, MIN_SAME_PIXELS_INT8 if int8 else MIN_SAME_PIXELS))
    for name, reference, minimum in references:
        labels = [segment_image(reference, image) for image in images]
        same = float(np.mean([np.mean(ours == theirs) for ours, theirs in zip(labels, masks, strict=True)]))
        print(f"MediaPipe, images at the network's size: {same:.2%} of the pixels have the class of {name}")
        if same < minimum:
            faults.append(f"MediaPipe gives other classes than {name} in {1 - same:.2%} of the pixels")
    return faults
