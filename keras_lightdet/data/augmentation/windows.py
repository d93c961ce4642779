"""Random windows of training images, alone or as the tiles of a mosaic.

A window is `(x_min, y_min, x_max, y_max)` in fractions of an image and may reach beyond it; what lies outside is gray.
Zooming out, cropping and scale jitter only choose windows. `augmentation.plan` computes what they do to a group of
images and boxes, in NumPy, and `augmentation.pixels` makes the images, in TensorFlow.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from keras_lightdet.data.augmentation.spec import AugmentSpec
from keras_lightdet.types import Size

Window: TypeAlias = tuple[float, float, float, float]
MOSAIC_TILES = 4
WHOLE = (0.0, 0.0, 1.0, 1.0)
_CROP_TRIALS = 30


class Tile(NamedTuple):
    """A rectangle of the network input that shows a window of one image; an image without mosaic is one tile."""

    source: int  # index of that image in the group
    window: Window  # the part of it that is visible
    corner: tuple[int, int]  # (y, x) of the tile in the network input, in pixels
    size: Size


def choose_window(rng: np.random.Generator, boxes: np.ndarray, spec: AugmentSpec) -> Window:
    """Draws one of zooming out, cropping (by `boxes` as in `crop_window`), scale jitter and the whole image."""
    draw = rng.random()
    if draw < spec.zoom_out:
        return zoom_out_window(rng, spec)
    if draw < spec.zoom_out + spec.crop:
        return crop_window(rng, boxes, spec)
    if draw < spec.zoom_out + spec.crop + spec.jitter:
        return jitter_window(rng, spec)
    return WHOLE


def zoom_out_window(rng: np.random.Generator, spec: AugmentSpec) -> Window:
    """Returns a window around the image, 1 to `zoom_out_max` times its size."""
    side = rng.uniform(1.0, spec.zoom_out_max)
    return slide_window(rng, side, side)


def jitter_window(rng: np.random.Generator, spec: AugmentSpec) -> Window:
    """Returns a window that scales the image by `jitter_scale` and changes its aspect by up to `jitter_aspect`."""
    low, high = spec.jitter_scale
    scale = low * (high / low) ** rng.random()
    stretch = spec.jitter_aspect ** (rng.random() - 0.5)
    return slide_window(rng, stretch / scale, 1.0 / (stretch * scale))


def crop_window(rng: np.random.Generator, boxes: np.ndarray, spec: AugmentSpec) -> Window:
    """Returns the first of several random crops that has the required IoU with a box; else the whole image.

    The boxes are `[G, 4]` xyxy in fractions of the image.
    """
    if not len(boxes):
        return WHOLE
    minimum = spec.crop_min_ious[int(rng.random() * len(spec.crop_min_ious))]
    draw = rng.random([_CROP_TRIALS, 4])
    sides = spec.crop_min_side + draw[:, :2] * (1.0 - spec.crop_min_side)
    low = draw[:, 2:] * (1.0 - sides)
    high = low + sides
    intersection = np.minimum(high[:, None], boxes[:, 2:]) - np.maximum(low[:, None], boxes[:, :2])
    intersection = area(np.maximum(intersection, 0.0))
    union = area(sides)[:, None] + area(boxes[:, 2:] - boxes[:, :2]) - intersection
    aspect = sides[:, 0] / sides[:, 1]
    valid = ((intersection / union).max(axis=-1) >= minimum) & (aspect > 0.5) & (aspect < 2.0)
    first = valid.argmax()
    return (*low[first].tolist(), *high[first].tolist()) if valid[first] else WHOLE


def mosaic_tiles(rng: np.random.Generator, sources: Sequence[int], size: Size, spec: AugmentSpec) -> list[Tile]:
    """Arranges windows of `MOSAIC_TILES` images around a random center.

    The size of each window is drawn between that of its tile, as in an image without mosaic, and the largest of the
    same shape that the image contains.

    Args:
        rng: Random generator.
        sources: Indices of the images in their group: top left, top right, bottom left, bottom right.
        size: `(height, width)` of the network input.
        spec: Sets the range of the center.
    """
    y, x = (round(rng.uniform(*spec.mosaic_center) * side) for side in size)
    tiles = []
    for quadrant, source in enumerate(sources):
        low, right = divmod(quadrant, 2)
        tile = (size[0] - y if low else y, size[1] - x if right else x)
        width, height = tile[1] / size[1], tile[0] / size[0]
        zoom = rng.uniform(1.0, 1.0 / max(width, height))
        window = slide_window(rng, width * zoom, height * zoom)
        tiles.append(Tile(source, window, (y if low else 0, x if right else 0), tile))
    return tiles


def area(sides: np.ndarray) -> np.ndarray:
    """Returns the areas of sides `[..., 2]`."""
    return sides[..., 0] * sides[..., 1]


def slide_window(rng: np.random.Generator, width: float, height: float) -> Window:
    """Returns a window of this size at a random position: inside the image if smaller, around it if larger."""
    x, y = rng.random() * (1.0 - width), rng.random() * (1.0 - height)
    return (x, y, x + width, y + height)
