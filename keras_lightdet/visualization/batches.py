"""A sheet of what the network will see: training images as they leave the pipeline, with their boxes or labels."""

import numpy as np
from PIL import Image

from keras_lightdet.data.augmentation.windows import AugmentSpec
from keras_lightdet.data.detection.batches import train_batches
from keras_lightdet.data.detection.records import DetectionData, ImageRecord
from keras_lightdet.data.segmentation.batches import SegmentationAugmentSpec, segmentation_train_batches
from keras_lightdet.data.segmentation.loading import SegmentationData
from keras_lightdet.visualization.boxes import draw
from keras_lightdet.visualization.masks import draw_segmentation, present_classes
from keras_lightdet.visualization.montage import beside, framed, in_rows, legend_lines, stacked, tile_size

_LABELLED_SIDE = 320


def draw_detection_batch(
    data: DetectionData,
    image_size: tuple[int, int],
    *,
    augment: AugmentSpec | None,
    pictures: int = 12,
    columns: int = 4,
    seed: int = 0,
) -> Image.Image:
    """Draws the first images of the training stream with their boxes; ignored boxes are gray.

    Args:
        data: What to draw from.
        image_size: `(height, width)` of the network input.
        augment: As in `train_batches`.
        images: How many to show.
        columns: Images side by side.
        seed: As in `train_batches`.

    Returns:
        An RGB image.
    """
    images, targets = next(iter(train_batches(data, image_size, pictures, seed=seed, augment=augment)))
    targets = {key: value.numpy() for key, value in targets.items()}
    tiles = []
    for position, image in enumerate(images.numpy()):
        truth = _as_record(image, {key: value[position] for key, value in targets.items()})
        tiles.append(draw(image, None, data.class_names, truth=truth))
    return framed(stacked(in_rows(tiles, columns)))


def draw_segmentation_batch(
    data: SegmentationData,
    image_size: tuple[int, int],
    *,
    augment: SegmentationAugmentSpec | None,
    pictures: int = 12,
    columns: int = 2,
    seed: int = 0,
    strict: bool = False,
) -> Image.Image:
    """Draws the first images of the training stream beside the same in their classes' colors, with a legend below.

    Args:
        data: What to draw from.
        image_size: `(height, width)` of the network input; larger images are shown smaller.
        augment: As in `segmentation_train_batches`.
        images: How many to show.
        columns: Pairs side by side.
        seed: As in `segmentation_train_batches`.
        strict: As in `segmentation_train_batches`.

    Returns:
        An RGB image; pixels that are ignored, those outside an image too, are gray.
    """
    batches = segmentation_train_batches(data, image_size, pictures, seed=seed, augment=augment, strict=strict)
    images, targets = next(iter(batches))
    images, labels = images.numpy(), targets["labels"].numpy()
    size = tile_size(*image_size, min(_LABELLED_SIDE, max(image_size)))
    pairs = []
    for image, one in zip(images, labels, strict=True):
        tiles = [Image.fromarray(image), draw_segmentation(image, one)]
        pairs.append(beside([tile.resize(size, Image.Resampling.BICUBIC) for tile in tiles]))
    rows = in_rows(pairs, columns)
    return framed(stacked([*rows, *legend_lines(present_classes(labels, data.class_names), rows[0].width)]))


def _as_record(image: np.ndarray, targets: dict[str, np.ndarray]) -> ImageRecord:
    valid = targets["labels"] >= 0
    boxes = targets["boxes"][valid]
    return ImageRecord(
        path="",
        image_id=0,
        width=image.shape[1],
        height=image.shape[0],
        boxes=boxes,
        labels=targets["labels"][valid],
        ignore=targets["ignore"][valid].astype(bool),
        areas=(boxes[:, 2:] - boxes[:, :2]).prod(axis=-1),
    )
