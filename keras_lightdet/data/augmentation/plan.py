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
from keras_lightdet.labels import LabeledBoxes
from keras_lightdet.types import Size

# A box with a shorter side has no pixel left to learn from.
MIN_SIDE = 1.0
_XYXY = [1, 0, 1, 0]  # indices that turn (y, x) into (x, y, x, y)


class Crop(NamedTuple):
    """Windows in whole pixels, `(y, x)`: int32 `[..., 2]`; `upsampled` is bool `[...]`.

    Attributes:
        start: First visible row and column of the image.
        stop: End of the visible rows and columns, exclusive.
        first: First row and column they are resized to in the result, which is gray elsewhere.
        last: End of these, exclusive.
        size: `(height, width)` of the result.
        upsampled: Whether the window is a part of the image that is resized to more pixels.
    """

    start: np.ndarray
    stop: np.ndarray
    first: np.ndarray
    last: np.ndarray
    size: np.ndarray
    upsampled: np.ndarray


class CropOps(NamedTuple):
    """A `Crop` as arguments of TensorFlow ops.

    Attributes:
        begin: Int32 `[..., 3]`, for `tf.slice`.
        extent: Int32 `[..., 3]`, for `tf.slice`.
        size: Int32 `[..., 2]`, the size to resample to.
        margins: Int32 `[..., 3, 2]`, for `tf.pad`.
        upsampled: Bool `[...]`.
    """

    begin: np.ndarray | tf.Tensor
    extent: np.ndarray | tf.Tensor
    size: np.ndarray | tf.Tensor
    margins: np.ndarray | tf.Tensor
    upsampled: np.ndarray | tf.Tensor


class Plan(NamedTuple):
    """How the pixels of a group of P images are made.

    Attributes:
        crops: `[P, MOSAIC_TILES]`; an image without mosaic uses the first.
        mosaic: Bool `[P]`: made of all tiles; tile n shows the n-th image after this one, cyclically in the group.
        colored: Bool `[P]`.
        colors: `[P]`.
        flip: Bool `[P]`.
    """

    crops: CropOps
    mosaic: np.ndarray | tf.Tensor
    colored: np.ndarray | tf.Tensor
    colors: Colors
    flip: np.ndarray | tf.Tensor


class GroupBoxes(NamedTuple):
    """The boxes of a group of images in one list.

    Attributes:
        boxes: Float32 `[K, 4]`.
        labels: Int `[K]`.
        ignore: Bool `[K]`.
        image: Int `[K]`, index of the image that each box belongs to.
    """

    boxes: np.ndarray
    labels: np.ndarray
    ignore: np.ndarray
    image: np.ndarray


class PaddedBoxes(NamedTuple):
    """The boxes of P images, padded to G each.

    Attributes:
        boxes: Float32 `[P, G, 4]`.
        labels: Int32 `[P, G]`; -1 pads.
        ignore: Uint8 `[P, G]`.
    """

    boxes: np.ndarray | tf.Tensor
    labels: np.ndarray | tf.Tensor
    ignore: np.ndarray | tf.Tensor


def plan_spec(count: int) -> Plan:
    """Returns the types and shapes of the plan for a group of `count` images."""
    tiles = (count, MOSAIC_TILES)
    return Plan(
        CropOps(
            tf.TensorSpec([*tiles, 3], tf.int32),
            tf.TensorSpec([*tiles, 3], tf.int32),
            tf.TensorSpec([*tiles, 2], tf.int32),
            tf.TensorSpec([*tiles, 3, 2], tf.int32),
            tf.TensorSpec(tiles, tf.bool),
        ),
        tf.TensorSpec([count], tf.bool),
        tf.TensorSpec([count], tf.bool),
        Colors(tf.TensorSpec([count, 3, 3], tf.float32), tf.TensorSpec([count], tf.float32)),
        tf.TensorSpec([count], tf.bool),
    )


def plan_images(
    rng: np.random.Generator,
    extents: np.ndarray,
    labeled: Sequence[LabeledBoxes],
    size: Size,
    spec: AugmentSpec,
    steps: np.ndarray,
    max_boxes: int,
) -> tuple[Plan, PaddedBoxes, np.ndarray]:
    """Draws the augmentation of a group of images.

    Args:
        rng: Random generator.
        extents: Int `[P, 2]`, `(height, width)` of the images.
        labeled: Their boxes.
        size: `(height, width)` of the network input.
        spec: The settings.
        steps: Int `[P]`, the training steps that the images are for.
        max_boxes: Boxes per image in the result.

    Returns:
        `(plan, boxes, sources)`; sources int32 `[P, MOSAIC_TILES]` are the indices in the group of the images that each
        result shows (-1 pads).
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
            boxes = labeled[index].boxes / extents[index, _XYXY]
            window = choose_window(rng, boxes, spec) if active[index] else WHOLE
            own_tiles = [Tile(index, window, (0, 0), size)]
        tiles += own_tiles
        slots += range(index * MOSAIC_TILES, index * MOSAIC_TILES + len(own_tiles))
    shown, windows, corners, sizes = (np.array(column) for column in zip(*tiles, strict=True))
    crop = crop_windows(extents[shown], windows, sizes)
    moved = _join([labeled[index] for index in shown], np.array(slots) // MOSAIC_TILES, crop, corners, spec.min_visible)
    mirrored = flip[moved.image]
    moved.boxes[mirrored] = flip_boxes(moved.boxes[mirrored], size[1])
    crops = CropOps(*(_scatter(values, slots, count, 0) for values in crop_ops(crop)))
    plan = Plan(crops, mosaic, colored, draw_colors(rng, count, spec), flip)
    return plan, pad_boxes(moved, count, max_boxes), _scatter(shown.astype(np.int32), slots, count, -1)


def crop_windows(extents: np.ndarray, windows: np.ndarray, sizes: np.ndarray) -> Crop:
    """Rounds windows to whole pixels.

    Args:
        extents: Int `[..., 2]`, `(height, width)` of the images.
        windows: `[..., 4]`.
        sizes: Int `[..., 2]`, `(height, width)` that the windows are resized to.
    """
    extents, sizes = np.asarray(extents, np.int32), np.asarray(sizes, np.int32)
    # A window that starts in the last half of an image's last pixel would show none of it.
    low = np.minimum(_round(windows[..., 1::-1] * extents), extents - 1)
    high = np.maximum(_round(windows[..., :1:-1] * extents), low + 1)
    start = np.maximum(low, 0)
    stop = np.maximum(np.minimum(high, extents), start + 1)
    scale = sizes / (high - low)
    first = np.minimum(np.maximum(_round((start - low) * scale), 0), sizes - 1)
    last = np.maximum(np.minimum(_round((stop - low) * scale), sizes), first + 1)
    downsampled = (last - first <= stop - start).all(axis=-1)
    whole = ((low == 0) & (high == extents)).all(axis=-1)
    return Crop(start, stop, first, last, sizes, ~(downsampled | whole))


def move_boxes(boxes: np.ndarray, crop: Crop, min_visible: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Moves boxes with the pixels of a crop.

    Args:
        boxes: `[K, 4]` in pixels of their images.
        crop: `[K]`, or one for all.
        min_visible: A box that keeps a smaller share of its area counts as hidden.

    Returns:
        `(boxes, visible, hidden)`: float32 `[K, 4]` in pixels of the result, clipped to it; bool `[K]`, false where a
        side is below `MIN_SIDE`; bool `[K]`.
    """
    start, stop, first, last, limits = (value[..., _XYXY].astype(np.float32) for value in crop[:5])
    moved = first + (boxes - start) * ((last - first) / (stop - start))
    clipped = np.minimum(np.maximum(moved, 0.0), limits)
    sides = clipped[:, 2:] - clipped[:, :2]
    hidden = area(sides) < min_visible * area(moved[:, 2:] - moved[:, :2])
    return clipped, (sides >= MIN_SIDE).all(axis=-1), hidden


def flip_boxes(boxes: np.ndarray, width: int) -> np.ndarray:
    """Mirrors boxes `[K, 4]` in an image of that width."""
    x_min, y_min, x_max, y_max = boxes.T
    return np.stack([width - x_max, y_min, width - x_min, y_max], axis=-1)


def pad_boxes(group: GroupBoxes, count: int, max_boxes: int) -> PaddedBoxes:
    """Sorts each image's boxes by descending area and pads or truncates them to `max_boxes`.

    Args:
        group: The boxes of all images.
        count: Number of images.
        max_boxes: Boxes per image in the result.
    """
    order = np.lexsort([-area(group.boxes[:, 2:] - group.boxes[:, :2]), group.image])
    image = group.image[order]
    rank = np.arange(len(image)) - np.searchsorted(image, image)
    kept = rank < max_boxes
    order, slots = order[kept], (image[kept], rank[kept])
    padded = PaddedBoxes(
        np.zeros([count, max_boxes, 4], np.float32),
        np.full([count, max_boxes], -1, np.int32),
        # Not bool: Keras averages a first batch over the replicas of a distribution strategy.
        np.zeros([count, max_boxes], np.uint8),
    )
    for target, values in zip(padded, group[:3], strict=True):
        target[slots] = values[order]
    return padded


def crop_ops(crop: Crop) -> CropOps:
    """Returns the arguments of the TensorFlow ops for `[N]` crops."""
    depth = np.full([len(crop.start), 1], 3, np.int32)
    margins = np.stack([crop.first, crop.size - crop.last], axis=-1)
    return CropOps(
        np.concatenate([crop.start, np.zeros_like(depth)], axis=-1),
        np.concatenate([crop.stop - crop.start, depth], axis=-1),
        crop.last - crop.first,
        np.concatenate([margins, np.zeros([len(margins), 1, 2], np.int32)], axis=1),
        crop.upsampled,
    )


def _join(
    labeled: Sequence[LabeledBoxes], images: np.ndarray, crop: Crop, corners: np.ndarray, min_visible: float
) -> GroupBoxes:
    """Returns the visible boxes of N tiles in pixels of the results; `images` `[N]` are the results' indices."""
    boxes = np.concatenate([tile.boxes for tile in labeled])
    labels = np.concatenate([tile.labels for tile in labeled])
    ignore = np.concatenate([tile.ignore for tile in labeled])
    tile = np.repeat(np.arange(len(labeled)), [len(tile.labels) for tile in labeled])
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
