"""Draws the classes of an image's pixels in color."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from keras_lightdet.errors import DataError
from keras_lightdet.labels import IGNORE
from keras_lightdet.visualization.boxes import IGNORED_COLOR, class_color
from keras_lightdet.visualization.montage import Color

OPACITY = 0.6
IGNORED_NAME = "ignored"


def color_labels(labels: np.ndarray) -> np.ndarray:
    """Returns labels, uint8 `[H, W]`, as colors, uint8 `[H, W, 3]`; ignored pixels are gray."""
    colors = np.array([class_color(label) for label in range(IGNORE)] + [IGNORED_COLOR], np.uint8)
    return colors[labels]


def draw_segmentation(image: np.ndarray, labels: np.ndarray, *, opacity: float = OPACITY) -> Image.Image:
    """Blends an image with the colors of its pixels' classes.

    Args:
        image: Uint8 `[H, W, 3]` RGB.
        labels: Uint8 `[H, W]`, of `SegmentationModel.segment` or a data set.
        opacity: Weight of the colors, 0..1.

    Returns:
        An RGB image, which a notebook displays and `.save(path)` writes.

    Raises:
        DataError: The image and the labels have different sizes.
    """
    if image.shape[:2] != labels.shape:
        raise DataError(f"Expected labels of the image's size {image.shape[:2]}, got {labels.shape}.")
    blended = (1 - opacity) * image.astype(np.float32) + opacity * color_labels(labels)
    return Image.fromarray(np.rint(blended).astype(np.uint8))


def present_classes(label_images: Sequence[np.ndarray], class_names: Sequence[str]) -> list[tuple[str, Color]]:
    """Returns names and colors of the classes that occur, in label order, for a legend."""
    present = sorted({int(label) for labels in label_images for label in np.unique(labels)})
    return [
        (IGNORED_NAME, IGNORED_COLOR) if label == IGNORE else (class_names[label], class_color(label))
        for label in present
    ]
