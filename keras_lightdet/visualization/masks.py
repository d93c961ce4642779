"""Images with the classes of their pixels in color, for people to look at."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from keras_lightdet.errors import DataError
from keras_lightdet.labels import IGNORE
from keras_lightdet.visualization.boxes import IGNORED_COLOR, class_color

OPACITY = 0.6


def color_labels(labels: np.ndarray) -> np.ndarray:
    """Returns labels, uint8 `[H, W]`, as colors, uint8 `[H, W, 3]`; what is to be ignored is gray."""
    colors = np.array([class_color(label) for label in range(IGNORE)] + [IGNORED_COLOR], np.uint8)
    return colors[labels]


def draw_segmentation(image: np.ndarray, labels: np.ndarray, *, opacity: float = OPACITY) -> Image.Image:
    """Lays the classes' colors over an image.

    Args:
        image: Uint8 `[H, W, 3]` RGB.
        labels: Uint8 `[H, W]`, of `SegmentationModel.segment` or a data set.
        opacity: Of the colors, 0..1.

    Returns:
        An RGB image; it shows itself in a notebook and is stored by `.save(path)`.

    Raises:
        DataError: The two have different sizes.
    """
    if image.shape[:2] != labels.shape:
        raise DataError(f"Expected labels of the image's size {image.shape[:2]}, got {labels.shape}.")
    mixed = (1 - opacity) * image.astype(np.float32) + opacity * color_labels(labels)
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def present_classes(labels: Sequence[np.ndarray], class_names: Sequence[str]) -> list[tuple[str, tuple]]:
    """Returns names and colors of the classes that occur, in label order, for a legend."""
    seen = sorted({int(label) for one in labels for label in np.unique(one)} - {IGNORE})
    entries = [(class_names[label], class_color(label)) for label in seen]
    return entries + ([("not scored", IGNORED_COLOR)] if any(np.any(one == IGNORE) for one in labels) else [])
