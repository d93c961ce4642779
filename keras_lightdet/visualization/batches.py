"""Draws training images as the network receives them, with their boxes or labels."""

from dataclasses import replace

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
from keras_lightdet.visualization.montage import make_montage, stack_horizontally, tile_size

_MAX_TILE = 320  # longer side of a tile in pixels


def draw_detection_batch(
    data: DetectionData,
    image_size: Size,
    *,
    augment: AugmentSpec | None,
    num_images: int = 12,
    columns: int = 4,
    seed: int = 0,
) -> Image.Image:
    """Draws the first images of the training stream, `columns` in a row, with their boxes; ignored boxes are gray.

    The other arguments are those of `detection_train_batches`.
    """
    images, targets = next(iter(detection_train_batches(data, image_size, num_images, seed=seed, augment=augment)))
    targets = {key: values.numpy() for key, values in targets.items()}
    tiles = []
    for index, image in enumerate(images.numpy()):
        is_box = targets["labels"][index] >= 0
        boxes, labels, ignore = (targets[key][index][is_box] for key in ("boxes", "labels", "ignore"))
        record = data.records[targets["sources"][index, 0]]
        ground_truth = replace(record, boxes=boxes, labels=labels, ignore=ignore)
        tiles.append(draw_detection(image, None, data.class_names, ground_truth=ground_truth))
    return make_montage(tiles, columns)


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

    `columns` pairs are in a row, downsampled where they are large. Ignored pixels, including those outside an image,
    are gray. The other arguments are those of `segmentation_train_batches`.
    """
    batches = segmentation_train_batches(data, image_size, num_images, seed=seed, augment=augment, strict=strict)
    images, targets = next(iter(batches))
    label_images = targets["labels"].numpy()
    size = tile_size(image_size[0], image_size[1], min(_MAX_TILE, max(image_size)))
    pairs = []
    for image, labels in zip(images.numpy(), label_images, strict=True):
        tiles = [Image.fromarray(image), draw_segmentation(image, labels)]
        pairs.append(stack_horizontally([tile.resize(size, Image.Resampling.BICUBIC) for tile in tiles]))
    return make_montage(pairs, columns, present_classes(label_images, data.class_names))
