"""Plans the augmentation of a group of images and boxes: pure functions of NumPy arrays.

Only the pixels are left to TensorFlow (`augmentation.pixels`): with its small ops, planning took as long as the images.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_lightdet.data.augmentation.colors import Colors, draw_colors
from keras_lightdet.data.augmentation.spec import AugmentSpec
from keras_lightdet.data.augmentation.windows import MOSAIC_TILES, WHOLE, Tile, area, choose_window, mosaic_tiles
from keras_lightdet.data.detection.records import ImageRecord
from keras_lightdet.types import DetectionTargets, Size

# A box with a shorter side has no pixel left to learn from.
MIN_SIDE = 1.0
_XYXY = [1, 0, 1, 0]  # indices that turn (y, x) into (x, y, x, y)


class Crop(NamedTuple):
    """Windows in whole pixels, as arguments of TensorFlow ops; the axes of an image are `(y, x, channel)`."""

    begin: np.ndarray | tf.Tensor  # int32 [..., 3]: first visible row and column of the image, for `tf.slice`
    extent: np.ndarray | tf.Tensor  # int32 [..., 3]: number of visible rows and columns, for `tf.slice`
    size: np.ndarray | tf.Tensor  # int32 [..., 2]: number of rows and columns that they are resized to
    margins: np.ndarray | tf.Tensor  # int32 [..., 3, 2]: gray rows and columns around these, for `tf.pad`
    upsampled: np.ndarray | tf.Tensor  # bool [...]: whether a part of the image is resized to more pixels


class Plan(NamedTuple):
    """How the pixels of a group of P images are made."""

    crops: Crop  # [P, MOSAIC_TILES]; an image without mosaic uses the first
    mosaic: (
        np.ndarray | tf.Tensor
    )  # bool [P]: made of all tiles; tile n shows the n-th image after this one, cyclically
    colored: np.ndarray | tf.Tensor  # bool [P]
    colors: Colors  # [P]
    flip: np.ndarray | tf.Tensor  # bool [P]


class GroupBoxes(NamedTuple):
    """The boxes of a group of images in one list."""

    boxes: np.ndarray  # float32 [K, 4]
    labels: np.ndarray  # int [K]
    ignore: np.ndarray  # bool [K]
    image: np.ndarray  # int [K], index of the image that each box belongs to


def plan_spec(count: int) -> Plan:
    """Returns the types and shapes of the plan for a group of `count` images."""
    tiles, flags = (count, MOSAIC_TILES), tf.TensorSpec([count], tf.bool)
    crops = Crop(
        tf.TensorSpec([*tiles, 3], tf.int32),
        tf.TensorSpec([*tiles, 3], tf.int32),
        tf.TensorSpec([*tiles, 2], tf.int32),
        tf.TensorSpec([*tiles, 3, 2], tf.int32),
        tf.TensorSpec(tiles, tf.bool),
    )
    colors = Colors(tf.TensorSpec([count, 3, 3], tf.float32), tf.TensorSpec([count], tf.float32))
    return Plan(crops, flags, flags, colors, flags)


def plan_images(
    rng: np.random.Generator,
    extents: np.ndarray,
    records: Sequence[ImageRecord],
    size: Size,
    spec: AugmentSpec,
    steps: np.ndarray,
    max_boxes: int,
) -> tuple[Plan, DetectionTargets]:
    """Draws the augmentation of a group of images.

    Args:
        rng: Random generator.
        extents: Int `[P, 2]`, `(height, width)` of the images.
        records: Their boxes.
        size: `(height, width)` of the network input.
        spec: The settings.
        steps: Int `[P]`, the training steps that the images are for.
        max_boxes: Boxes per image in the result.

    Returns:
        The plan, and the targets as arrays; their sources are indices in the group.
    """
    count = len(extents)
    active = _before(steps, spec.until_step)
    mosaic, colored, flip = active & (rng.random([3, count]) < [[spec.mosaic], [spec.color], [spec.flip]])
    mosaic &= _before(steps, spec.mosaic_until_step)
    tiles: list[Tile] = []
    slots: list[int] = []
    for index in range(count):
        if mosaic[index]:
            own_tiles = mosaic_tiles(rng, [(index + offset) % count for offset in range(MOSAIC_TILES)], size, spec)
        else:
            boxes = records[index].boxes / extents[index, _XYXY]
            window = choose_window(rng, boxes, spec) if active[index] else WHOLE
            own_tiles = [Tile(index, window, (0, 0), size)]
        tiles += own_tiles
        slots += range(index * MOSAIC_TILES, index * MOSAIC_TILES + len(own_tiles))
    shown, windows, corners, sizes = (np.array(column) for column in zip(*tiles, strict=True))
    crop = crop_windows(extents[shown], windows, sizes)
    moved = _join([records[index] for index in shown], np.array(slots) // MOSAIC_TILES, crop, corners, spec.min_visible)
    boxes, mirrored = moved.boxes, flip[moved.image]
    boxes[mirrored, 0], boxes[mirrored, 2] = size[1] - boxes[mirrored, 2], size[1] - boxes[mirrored, 0]
    crops = Crop(*(_scatter(values, slots, count, 0) for values in crop))
    plan = Plan(crops, mosaic, colored, draw_colors(rng, count, spec), flip)
    sources = _scatter(shown.astype(np.int32), slots, count, -1)
    return plan, {**pad_boxes(moved, count, max_boxes), "sources": sources}


def crop_windows(extents: np.ndarray, windows: np.ndarray, sizes: np.ndarray) -> Crop:
    """Rounds windows `[N, 4]` of images to whole pixels.

    Args:
        extents: Int `[N, 2]`, `(height, width)` of the images.
        windows: `[N, 4]`.
        sizes: Int `[N, 2]`, `(height, width)` of the results.
    """
    extents, sizes = np.asarray(extents, np.int32), np.asarray(sizes, np.int32)
    # A window that starts in the last half of an image's last pixel would show none of it.
    low = np.minimum(_round(windows[:, 1::-1] * extents), extents - 1)
    high = np.maximum(_round(windows[:, :1:-1] * extents), low + 1)
    start = np.maximum(low, 0)
    stop = np.maximum(np.minimum(high, extents), start + 1)
    scale = sizes / (high - low)
    first = np.minimum(np.maximum(_round((start - low) * scale), 0), sizes - 1)
    last = np.maximum(np.minimum(_round((stop - low) * scale), sizes), first + 1)
    downsampled = (last - first <= stop - start).all(axis=-1)
    whole = ((low == 0) & (high == extents)).all(axis=-1)
    return Crop(
        np.pad(start, [(0, 0), (0, 1)]),
        np.pad(stop - start, [(0, 0), (0, 1)], constant_values=3),
        last - first,
        np.pad(np.stack([first, sizes - last], axis=-1), [(0, 0), (0, 1), (0, 0)]),
        ~(downsampled | whole),
    )


def move_boxes(boxes: np.ndarray, crop: Crop, min_visible: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Moves boxes `[K, 4]`, in pixels of their images, with the pixels of crops `[K]`, or of one crop `[1]`.

    Returns:
        `(boxes, visible, hidden)`: float32 `[K, 4]` in pixels of the result, clipped to it; bool `[K]`, false where a
        side is below `MIN_SIDE`; bool `[K]`, true where a box keeps less than `min_visible` of its area.
    """
    before, after = crop.margins[:, :2, 0], crop.margins[:, :2, 1]
    in_pixels = (crop.begin[:, :2], crop.extent[:, :2], before, crop.size, before + crop.size + after)
    start, extent, first, size, limits = (values[:, _XYXY].astype(np.float32) for values in in_pixels)
    moved = first + (boxes - start) * (size / extent)
    clipped = np.minimum(np.maximum(moved, 0.0), limits)
    sides = clipped[:, 2:] - clipped[:, :2]
    hidden = area(sides) < min_visible * area(moved[:, 2:] - moved[:, :2])
    return clipped, sides.min(axis=-1) >= MIN_SIDE, hidden


def pad_boxes(group: GroupBoxes, count: int, max_boxes: int) -> DetectionTargets:
    """Sorts each image's boxes by descending area and pads or truncates them to `max_boxes`; arrays `[count, ...]`."""
    order = np.lexsort([-area(group.boxes[:, 2:] - group.boxes[:, :2]), group.image])
    image = group.image[order]
    rank = np.arange(len(image)) - np.searchsorted(image, image)
    kept = rank < max_boxes
    order, slots = order[kept], (image[kept], rank[kept])
    padded: DetectionTargets = {
        "boxes": np.zeros([count, max_boxes, 4], np.float32),
        "labels": np.full([count, max_boxes], -1, np.int32),
        # Not bool: Keras averages a first batch over the replicas of a distribution strategy.
        "ignore": np.zeros([count, max_boxes], np.uint8),
    }
    padded["boxes"][slots], padded["labels"][slots] = group.boxes[order], group.labels[order]
    padded["ignore"][slots] = group.ignore[order]
    return padded


def _join(
    records: Sequence[ImageRecord], images: np.ndarray, crop: Crop, corners: np.ndarray, min_visible: float
) -> GroupBoxes:
    """Returns the visible boxes of N tiles in pixels of the results; `images` `[N]` are the results' indices."""
    boxes = np.concatenate([record.boxes for record in records])
    labels = np.concatenate([record.labels for record in records])
    ignore = np.concatenate([record.ignore for record in records])
    tile = np.repeat(np.arange(len(records)), [len(record.labels) for record in records])
    boxes, visible, hidden = move_boxes(boxes, Crop(*(values[tile] for values in crop)), min_visible)
    boxes = boxes + corners[tile][:, _XYXY].astype(np.float32)
    group = GroupBoxes(boxes, labels, ignore.astype(bool) | hidden, images[tile])
    return GroupBoxes(*(values[visible] for values in group))


def _scatter(values: np.ndarray, slots: Sequence[int], count: int, fill: int) -> np.ndarray:
    """Writes rows `[N, ...]` to their slots in `[count, MOSAIC_TILES, ...]`."""
    scattered = np.full([count * MOSAIC_TILES, *values.shape[1:]], fill, values.dtype)
    scattered[slots] = values
    return scattered.reshape(count, MOSAIC_TILES, *values.shape[1:])


def _before(steps: np.ndarray, limit: int | None) -> np.ndarray:
    return np.full(len(steps), True) if limit is None else steps < limit


def _round(values: np.ndarray) -> np.ndarray:
    return np.rint(values).astype(np.int32)
