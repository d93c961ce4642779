"""Draws training images as the network receives them, with their boxes or labels."""

from typing import NamedTuple

import numpy as np
from PIL import Image

from keras_lightdet.data import (
    AugmentSpec,
    DetectionData,
    SegmentationAugmentSpec,
    SegmentationData,
    detection_train_batches,
    segmentation_train_batches,
)
from keras_lightdet.types import Size
from keras_lightdet.visualization.boxes import draw_detection
from keras_lightdet.visualization.masks import draw_segmentation, present_classes
from keras_lightdet.visualization.montage import (
    add_border,
    legend_lines,
    make_rows,
    stack_horizontally,
    stack_vertically,
    tile_size,
)

_MAX_TILE = 320  # longer side of a tile in pixels


class _Boxes(NamedTuple):
    boxes: np.ndarray
    labels: np.ndarray
    ignore: np.ndarray


def draw_detection_batch(
    data: DetectionData,
    image_size: Size,
    *,
    augment: AugmentSpec | None,
    num_images: int = 12,
    columns: int = 4,
    seed: int = 0,
) -> Image.Image:
    """Draws the first images of the training stream with their boxes; ignored boxes are gray.

    Args:
        data: The training split.
        image_size: `(height, width)` of the network input.
        augment: See `detection_train_batches`.
        num_images: Number of images.
        columns: Images per row.
        seed: See `detection_train_batches`.

    Returns:
        An RGB image.
    """
    images, targets = next(iter(detection_train_batches(data, image_size, num_images, seed=seed, augment=augment)))
    columns_of_batch = (targets[key].numpy() for key in ("boxes", "labels", "ignore"))
    tiles = []
    for image, boxes, labels, ignore in zip(images.numpy(), *columns_of_batch, strict=True):
        is_box = labels >= 0
        ground_truth = _Boxes(boxes[is_box], labels[is_box], ignore[is_box])
        tiles.append(draw_detection(image, None, data.class_names, ground_truth=ground_truth))
    return add_border(stack_vertically(make_rows(tiles, columns)))


def draw_segmentation_batch(
    data: SegmentationData,
    image_size: Size,
    *,
    augment: SegmentationAugmentSpec | None,
    num_images: int = 12,
    columns: int = 2,
    seed: int = 0,
    strict: bool = False,
) -> Image.Image:
    """Draws the first images of the training stream, each beside a copy with its labels, and a legend.

    Args:
        data: The training split.
        image_size: `(height, width)` of the network input; larger images are shown downsampled.
        augment: See `segmentation_train_batches`.
        num_images: Number of images.
        columns: Pairs per row.
        seed: See `segmentation_train_batches`.
        strict: See `segmentation_train_batches`.

    Returns:
        An RGB image; ignored pixels, including those outside an image, are gray.
    """
    batches = segmentation_train_batches(data, image_size, num_images, seed=seed, augment=augment, strict=strict)
    images, targets = next(iter(batches))
    label_images = targets["labels"].numpy()
    size = tile_size(image_size[0], image_size[1], min(_MAX_TILE, max(image_size)))
    pairs = []
    for image, labels in zip(images.numpy(), label_images, strict=True):
        tiles = [Image.fromarray(image), draw_segmentation(image, labels)]
        pairs.append(stack_horizontally([tile.resize(size, Image.Resampling.BICUBIC) for tile in tiles]))
    rows = make_rows(pairs, columns)
    legend = legend_lines(present_classes(label_images, data.class_names), rows[0].width)
    return add_border(stack_vertically([*rows, *legend]))
