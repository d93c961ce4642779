"""What becomes of a group of images and its boxes under augmentation: pure functions of NumPy arrays.

TensorFlow is left the pixels alone (`augmentation_pixels`): its small operations took as long as the images.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_lightdet.data.augmentation.windows import (
    MOSAIC_PARTS,
    WHOLE,
    AugmentSpec,
    Colors,
    Part,
    area,
    choose_window,
    draw_colors,
    mosaic_parts,
)
from keras_lightdet.data.detection.records import ImageRecord

# A box with a shorter side has no pixel left to learn from.
MIN_SIDE = 1.0
_XYXY = [1, 0, 1, 0]  # turns (y, x) into (x, y, x, y)


class Cut(NamedTuple):
    """Windows in whole pixels, `(y, x)`; each an int32 `[..., 2]`, and `enlarged` a bool `[...]`.

    Attributes:
        start: Of the rows and columns of the image that show, the first.
        stop: Behind the last of them.
        first: Where they go in the result, which is gray elsewhere.
        last: Behind that.
        size: `(height, width)` of the result.
        enlarged: A part of an image that is to be enlarged.
    """

    start: np.ndarray
    stop: np.ndarray
    first: np.ndarray
    last: np.ndarray
    size: np.ndarray
    enlarged: np.ndarray


class Slice(NamedTuple):
    """`Cut` as TensorFlow's ops take it.

    Attributes:
        begin: Int32 `[..., 3]`, of `tf.slice`.
        extent: Int32 `[..., 3]`, of `tf.slice`.
        shown: Int32 `[..., 2]`, the size to resample to.
        margins: Int32 `[..., 3, 2]`, of `tf.pad`.
        enlarged: Bool `[...]`.
    """

    begin: np.ndarray | tf.Tensor
    extent: np.ndarray | tf.Tensor
    shown: np.ndarray | tf.Tensor
    margins: np.ndarray | tf.Tensor
    enlarged: np.ndarray | tf.Tensor


class Plan(NamedTuple):
    """How the pixels of a group of P images are made.

    Attributes:
        slices: `[P, MOSAIC_PARTS]`; an image of one part has it first.
        mosaic: Bool `[P]`: made of all parts; part n is of the n-th image on from this one, round the group.
        colored: Bool `[P]`.
        colors: `[P]`.
        flip: Bool `[P]`.
    """

    slices: Slice
    mosaic: np.ndarray | tf.Tensor
    colored: np.ndarray | tf.Tensor
    colors: Colors
    flip: np.ndarray | tf.Tensor


def plan_spec(count: int) -> Plan:
    """Types and shapes of the plan for a group of `count` images."""
    parts = (count, MOSAIC_PARTS)
    return Plan(
        Slice(
            tf.TensorSpec([*parts, 3], tf.int32),
            tf.TensorSpec([*parts, 3], tf.int32),
            tf.TensorSpec([*parts, 2], tf.int32),
            tf.TensorSpec([*parts, 3, 2], tf.int32),
            tf.TensorSpec(parts, tf.bool),
        ),
        tf.TensorSpec([count], tf.bool),
        tf.TensorSpec([count], tf.bool),
        Colors(tf.TensorSpec([count, 3, 3], tf.float32), tf.TensorSpec([count], tf.float32)),
        tf.TensorSpec([count], tf.bool),
    )


def plan_images(
    rng: np.random.Generator,
    extents: np.ndarray,
    records: Sequence[ImageRecord],
    size: tuple[int, int],
    spec: AugmentSpec,
    steps: np.ndarray,
    max_boxes: int,
) -> tuple[Plan, dict[str, np.ndarray], np.ndarray]:
    """Draws what becomes of a group of images.

    Args:
        rng: Draws.
        extents: Int `[P, 2]`, `(height, width)` of the images.
        records: Theirs.
        size: `(height, width)` of the network input.
        spec: What to draw.
        steps: Int `[P]`, the training steps that the images are for.
        max_boxes: Boxes per image in the result.

    Returns:
        `(plan, targets, sources)`: targets as `pad_boxes` gives them, and sources int32 `[P, MOSAIC_PARTS]`: the places
        in the group of the images that each is made of (-1 pads).
    """
    count = len(extents)
    active = _before(steps, spec.until_step)
    mosaic, colored, flip = active & (rng.random([3, count]) < [[spec.mosaic], [spec.color], [spec.flip]])
    mosaic &= _before(steps, spec.mosaic_until_step)
    parts, slots = [], []
    for place in range(count):
        if mosaic[place]:
            made = mosaic_parts(rng, [(place + part) % count for part in range(MOSAIC_PARTS)], size, spec)
        else:
            boxes = records[place].boxes / extents[place, _XYXY]
            window = choose_window(rng, boxes, spec) if active[place] else WHOLE
            made = [Part(place, window, (0, 0), size)]
        parts += made
        slots += range(place * MOSAIC_PARTS, place * MOSAIC_PARTS + len(made))
    shown, windows, corners, sizes = (np.array(column) for column in zip(*parts, strict=True))
    cut = cut_windows(extents[shown], windows, sizes)
    targets = _join(
        [records[place] for place in shown], np.array(slots) // MOSAIC_PARTS, cut, corners, spec.min_visible
    )
    mirrored = flip[targets["image"]]
    targets["boxes"][mirrored] = flip_boxes(targets["boxes"][mirrored], size[1])
    sources = _spread(shown.astype(np.int32), slots, count, -1)
    slices = Slice(*(_spread(values, slots, count, 0) for values in slices_of(cut)))
    plan = Plan(slices, mosaic, colored, draw_colors(rng, count, spec), flip)
    return plan, pad_boxes(targets, count, max_boxes), sources


def cut_windows(extents: np.ndarray, windows: np.ndarray, sizes: np.ndarray) -> Cut:
    """Rounds windows to whole pixels.

    Args:
        extents: Int `[..., 2]`, `(height, width)` of the images.
        windows: `[..., 4]`.
        sizes: Int `[..., 2]`, `(height, width)` that the windows are stretched to.
    """
    extents, sizes = np.int32(extents), np.int32(sizes)
    # A window that starts in the last half of an image's last pixel would show none of it.
    low = np.minimum(_round(windows[..., 1::-1] * extents), extents - 1)
    high = np.maximum(_round(windows[..., :1:-1] * extents), low + 1)
    start = np.maximum(low, 0)
    stop = np.maximum(np.minimum(high, extents), start + 1)
    scale = sizes / (high - low)
    first = np.minimum(np.maximum(_round((start - low) * scale), 0), sizes - 1)
    last = np.maximum(np.minimum(_round((stop - low) * scale), sizes), first + 1)
    like_inference = (last - first <= stop - start).all(axis=-1) | ((low == 0) & (high == extents)).all(axis=-1)
    return Cut(start, stop, first, last, sizes, ~like_inference)


def move_boxes(boxes: np.ndarray, cut: Cut, min_visible: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Moves boxes with the pixels that are cut out.

    Args:
        boxes: `[K, 4]` in pixels of their images.
        cut: `[K]`, or one for all.
        min_visible: A box that keeps a smaller share of its area counts as hidden.

    Returns:
        `(boxes, seen, hidden)`: float32 `[K, 4]` in pixels of the result, clipped to it; bool `[K]`, false where less
        than `MIN_SIDE` is left; bool `[K]`.
    """
    start, stop, first, last, limits = (value[..., _XYXY].astype(np.float32) for value in cut[:5])
    moved = first + (boxes - start) * ((last - first) / (stop - start))
    clipped = np.minimum(np.maximum(moved, 0.0), limits)
    sides = clipped[:, 2:] - clipped[:, :2]
    hidden = area(sides) < min_visible * area(moved[:, 2:] - moved[:, :2])
    return clipped, (sides >= MIN_SIDE).all(axis=-1), hidden


def flip_boxes(boxes: np.ndarray, width: int) -> np.ndarray:
    """Mirrors boxes `[K, 4]` in an image of that width."""
    x_min, y_min, x_max, y_max = boxes.T
    return np.stack([width - x_max, y_min, width - x_min, y_max], axis=-1)


def pad_boxes(targets: dict[str, np.ndarray], count: int, max_boxes: int) -> dict[str, np.ndarray]:
    """Sorts each image's boxes by falling area and pads or cuts them to `max_boxes`.

    Args:
        targets: Of all images in one, and `image` int `[K]`, whose each box is.
        count: Number of images.
        max_boxes: Boxes per image in the result.

    Returns:
        boxes float32 `[count, max_boxes, 4]`, labels int32 `[count, max_boxes]` (-1 pads), ignore uint8 alike.
    """
    image, areas = targets["image"], area(targets["boxes"][:, 2:] - targets["boxes"][:, :2])
    order = np.lexsort([-areas, image])
    image = image[order]
    rank = np.arange(len(image)) - np.searchsorted(image, image)
    order, place = order[rank < max_boxes], (image[rank < max_boxes], rank[rank < max_boxes])
    padded = {
        "boxes": np.zeros([count, max_boxes, 4], np.float32),
        "labels": np.full([count, max_boxes], -1, np.int32),
        # No bool: Keras averages a first batch over the replicas of a distribution strategy.
        "ignore": np.zeros([count, max_boxes], np.uint8),
    }
    for key, values in padded.items():
        values[place] = targets[key][order]
    return padded


def slices_of(cut: Cut) -> Slice:
    """What TensorFlow needs to make the pixels of `[N]` cuts."""
    depth = np.full([len(cut.start), 1], 3, np.int32)
    margins = np.stack([cut.first, cut.size - cut.last], axis=-1)
    return Slice(
        np.concatenate([cut.start, np.zeros_like(depth)], axis=-1),
        np.concatenate([cut.stop - cut.start, depth], axis=-1),
        cut.last - cut.first,
        np.concatenate([margins, np.zeros([len(margins), 1, 2], np.int32)], axis=1),
        cut.enlarged,
    )


def _join(records: Sequence[ImageRecord], images, cut: Cut, corners, min_visible: float) -> dict[str, np.ndarray]:
    """The boxes of N parts in pixels of the images they are parts of, and `image` `[K]`, which that is."""
    boxes, labels, ignore = (
        np.concatenate([getattr(record, name) for record in records]) for name in ("boxes", "labels", "ignore")
    )
    part = np.repeat(np.arange(len(records)), [len(record.labels) for record in records])
    boxes, seen, hidden = move_boxes(boxes, Cut(*(values[part] for values in cut)), min_visible)
    joined = {
        "boxes": boxes + corners[part][:, _XYXY].astype(np.float32),
        "labels": labels,
        "ignore": ignore.astype(bool) | hidden,
        "image": images[part],
    }
    return {name: values[seen] for name, values in joined.items()}


def _spread(values: np.ndarray, slots: Sequence[int], count: int, fill: int) -> np.ndarray:
    """Rows `[N, ...]` at their slots among `[count, MOSAIC_PARTS, ...]`."""
    spread = np.full([count * MOSAIC_PARTS, *values.shape[1:]], fill, values.dtype)
    spread[slots] = values
    return spread.reshape(count, MOSAIC_PARTS, *values.shape[1:])


def _before(steps: np.ndarray, limit: int | None) -> np.ndarray:
    return np.full(len(steps), True) if limit is None else steps < limit


def _round(values: np.ndarray) -> np.ndarray:
    return np.rint(values).astype(np.int32)
