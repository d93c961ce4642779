"""What the export commands share: a model from its weights, images from a data set."""

from pathlib import Path

import numpy as np

from keras_lightdet import models
from keras_lightdet.data.detection.loading import default_splits, load_data
from keras_lightdet.data.detection.records import DetectionData
from keras_lightdet.data.segmentation.loading import SegmentationData, load_segmentation, segmentation_splits
from keras_lightdet.errors import DataError, WeightsError
from keras_lightdet.images import read_image
from keras_lightdet.weights import read_record

BUILDERS = {name: getattr(models, name) for name in models.__all__}


def load_detector(weights: str | Path):
    """Returns the trained detector or segmenter of a .weights.h5 and the record beside it."""
    name = read_record(weights)["architecture"].get("builder")
    if name not in BUILDERS:
        raise WeightsError(
            f"Expected {str(weights)!r} to be weights of one of {sorted(BUILDERS)}, got {name!r}. "
            "Do give the weights of a model of this package."
        )
    return BUILDERS[name](weights=weights)


def load_split(data_dir: str | Path, format: str, class_names: tuple[str, ...], *, test: bool) -> DetectionData:
    """Returns the images to score on (`test`), or those that the detector was trained on."""
    return load_data(data_dir, default_splits(data_dir, format)[test], format, class_names=class_names)


def load_label_split(data_dir: str | Path, class_names: tuple[str, ...], *, test: bool) -> SegmentationData:
    """Returns the images with labels to score on (`test`), or those that the segmenter was trained on."""
    train, _, tested = segmentation_splits(data_dir)
    return load_segmentation(data_dir, tested if test else train, class_names=class_names)


def draw_images(data: DetectionData | SegmentationData, count: int, seed: int) -> list[np.ndarray]:
    """Returns `count` images of a data set, drawn at random; those that cannot be read are left out."""
    order = np.random.default_rng(seed).permutation(len(data.records))
    pictures = []
    for index in order:
        if len(pictures) == count:
            break
        try:
            pictures.append(read_image(data.records[index].path))
        except DataError:
            continue
    return pictures
