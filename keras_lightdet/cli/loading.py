"""Models and data sets of the commands. Imports TensorFlow."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np

from keras_lightdet import models
from keras_lightdet.classification import Classifier
from keras_lightdet.data.detection.loading import default_splits, load_data
from keras_lightdet.data.detection.records import DetectionData
from keras_lightdet.data.segmentation.loading import SegmentationData, load_segmentation, segmentation_splits
from keras_lightdet.deploy import TFLiteDetector, TFLiteSegmenter, flatbuffer
from keras_lightdet.deploy.runtime import MASKS
from keras_lightdet.detection import DetectorModel
from keras_lightdet.errors import DataError, WeightsError
from keras_lightdet.images import read_image
from keras_lightdet.models.registry import load_model
from keras_lightdet.segmentation import SegmentationModel

Detector: TypeAlias = DetectorModel | TFLiteDetector
Segmenter: TypeAlias = SegmentationModel | TFLiteSegmenter
Kind = TypeVar("Kind", DetectorModel, SegmentationModel)


def load_weights(weights: Path) -> DetectorModel | SegmentationModel:
    """Returns the detector or segmenter of a `.weights.h5`.

    Raises:
        WeightsError: The file or its record is missing or damaged, or is of another kind of model.
    """
    model = load_model(weights)
    if isinstance(model, Classifier):
        raise WeightsError(
            f"Expected weights of a detector or segmenter, one of {', '.join(models.__all__)}, got {str(weights)!r} of "
            f"the classifier {model.architecture['builder']}. Give the weights of a detector or segmenter."
        )
    return model


def load_keras_model(weights: Path, kind: type[Kind]) -> Kind:
    """Returns the Keras model that a .tflite was exported from.

    Raises:
        WeightsError: See `load_weights`; or the model is not of the class `kind`, that of the file.
    """
    model = load_weights(weights)
    if not isinstance(model, kind):
        noun = "detector" if kind is DetectorModel else "segmenter"
        raise WeightsError(f"Expected weights of a {noun}, got {str(weights)!r}. Give those of the file.")
    return model


def load_tflite(path: Path, threads: int = 1) -> TFLiteDetector | TFLiteSegmenter:
    """Returns the detector or segmenter of a .tflite file.

    Raises:
        ExportError: The file is missing or damaged, or has outputs of another kind of model.
    """
    _, outputs = flatbuffer.signature_tensors(flatbuffer.unpack(flatbuffer.read_content(path), repr(str(path))))
    kind = TFLiteSegmenter if list(outputs) == [MASKS] else TFLiteDetector
    return kind(path, num_threads=threads)


def load_detection_split(
    data_dir: Path, format: str, class_names: Sequence[str], *, evaluation: bool, split: str | None = None
) -> DetectionData:
    """Returns the evaluation or the training split of a data set, or the one named by `split`."""
    split = split or default_splits(data_dir, format)[evaluation]
    return load_data(data_dir, split, format, class_names=class_names)


def load_segmentation_split(
    data_dir: Path, class_names: Sequence[str], *, evaluation: bool, split: str | None = None
) -> SegmentationData:
    """Returns the evaluation or the training split of a data set, or the one named by `split`."""
    train, _, test = segmentation_splits(data_dir)
    return load_segmentation(data_dir, split or (test if evaluation else train), class_names=class_names)


def sample_images(data: DetectionData | SegmentationData, count: int, seed: int) -> list[np.ndarray]:
    """Returns `count` random images of a data set, uint8 `[H, W, 3]`; unreadable ones are skipped."""
    images: list[np.ndarray] = []
    for index in np.random.default_rng(seed).permutation(len(data.records)):
        if len(images) == count:
            break
        try:
            images.append(read_image(data.records[index].path))
        except DataError:
            continue
    return images
