"""What augmentation may do to a training image, and the random draws of it: windows, mosaics and colors.

A window is `(x_min, y_min, x_max, y_max)` in fractions of an image and may reach beyond it; what lies outside is gray.
Zooming out, cropping and scale jitter only choose windows. `augmentation_plan` works out what becomes of a group of
images and its boxes, in NumPy, and `augmentation_pixels` makes the images, in TensorFlow.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf

Window = tuple[float, float, float, float]
MOSAIC_PARTS = 4
WHOLE = (0.0, 0.0, 1.0, 1.0)
_CROP_TRIALS = 30
# Hue is turned about the gray axis in the plane of the two chroma axes: to YIQ, a rotation of I and Q, and back.
_YIQ = np.array([(0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)])
_TO_LUMA = np.array([_YIQ[0]] * 3)
_HUE_KEPT, _HUE_COSINE, _HUE_SINE = (
    np.linalg.inv(_YIQ) @ np.array(turn) @ _YIQ
    for turn in (
        [(1, 0, 0), (0, 0, 0), (0, 0, 0)],
        [(0, 0, 0), (0, 1, 0), (0, 0, 1)],
        [(0, 0, 0), (0, 0, -1), (0, 1, 0)],
    )
)


@dataclass(frozen=True)
class AugmentSpec:
    """How training images are varied; the defaults are for training from scratch on little data.

    Attributes:
        flip: Probability of a left-right flip.
        zoom_out: Probability that the image is laid on a larger gray canvas.
        zoom_out_max: Largest canvas, in sides of the image.
        crop: Probability of an SSD crop (Liu et al. 2016, sec. 2.2).
        crop_min_ious: The crop overlaps some box by at least one of these, drawn at random.
        crop_min_side: Smallest crop, in sides of the image.
        jitter: Probability of scale jitter.
        jitter_scale: Range of the scale: below 1 the image is padded, above 1 cropped.
        jitter_aspect: Largest stretch of the aspect ratio, both ways.
        mosaic: Probability that an image is made of four (Bochkovskiy et al. 2020, sec. 3.3).
        mosaic_center: Range of the meeting point, in sides of the network input.
        min_visible: A box of which less than this share of the area is left becomes `ignore`.
        color: Probability of the four changes of color that follow, all together.
        brightness: Largest shift, as a share of 255.
        contrast: Largest change of the factor from 1.
        saturation: Largest change of the factor from 1.
        hue: Largest turn, as a share of the color circle.
        mosaic_until_step: First step without mosaic; None keeps it to the end.
        until_step: First step without any augmentation; None keeps it to the end.
    """

    flip: float = 0.5
    zoom_out: float = 0.15
    zoom_out_max: float = 2.0
    crop: float = 0.3
    crop_min_ious: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    crop_min_side: float = 0.3
    jitter: float = 0.35
    jitter_scale: tuple[float, float] = (0.7, 1.6)
    jitter_aspect: float = 1.25
    mosaic: float = 0.3
    mosaic_center: tuple[float, float] = (0.3, 0.7)
    min_visible: float = 0.3
    color: float = 0.5
    brightness: float = 0.1
    contrast: float = 0.25
    saturation: float = 0.3
    hue: float = 0.03
    mosaic_until_step: int | None = None
    until_step: int | None = None

    def __post_init__(self):
        for name in ("flip", "zoom_out", "crop", "jitter", "mosaic", "min_visible", "color"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"Expected {name} to be in 0..1, got {getattr(self, name)!r}.")
        if self.zoom_out + self.crop + self.jitter > 1:
            raise ValueError(
                "Expected zoom_out + crop + jitter to be at most 1, as an image gets one of them, "
                f"got {self.zoom_out} + {self.crop} + {self.jitter}."
            )


class Part(NamedTuple):
    """What a part of the network's image shows: a window of one image of the group.

    Attributes:
        source: Place of that image in the group.
        window: What of it shows.
        corner: `(y, x)` of the part in the network's image.
        size: `(height, width)` of the part.
    """

    source: int
    window: Window
    corner: tuple[int, int]
    size: tuple[int, int]


class Colors(NamedTuple):
    """Changes of color: `pixel @ matrix + shift`.

    Attributes:
        matrix: Float32 `[..., 3, 3]`.
        shift: Float32 `[...]`, the same for all channels.
    """

    matrix: np.ndarray | tf.Tensor
    shift: np.ndarray | tf.Tensor


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
    """A window of 1 to `zoom_out_max` sides around the image."""
    side = rng.uniform(1.0, spec.zoom_out_max)
    return slide_window(rng, side, side)


def jitter_window(rng: np.random.Generator, spec: AugmentSpec) -> Window:
    """A window that scales the image by `jitter_scale` and stretches it by up to `jitter_aspect`."""
    low, high = spec.jitter_scale
    scale = low * (high / low) ** rng.random()
    stretch = spec.jitter_aspect ** (rng.random() - 0.5)
    return slide_window(rng, stretch / scale, 1.0 / (stretch * scale))


def crop_window(rng: np.random.Generator, boxes: np.ndarray, spec: AugmentSpec) -> Window:
    """The first of some random crops that overlaps a box enough; the whole image where none does.

    Args:
        rng: Draws.
        boxes: `[G, 4]` xyxy in fractions of the image.
        spec: Sets the overlaps and the smallest crop.
    """
    if not len(boxes):
        return WHOLE
    minimum = spec.crop_min_ious[int(rng.random() * len(spec.crop_min_ious))]
    draw = rng.random([_CROP_TRIALS, 4])
    sides = spec.crop_min_side + draw[:, :2] * (1.0 - spec.crop_min_side)
    low = draw[:, 2:] * (1.0 - sides)
    high = low + sides
    shared = np.minimum(high[:, None], boxes[:, 2:]) - np.maximum(low[:, None], boxes[:, :2])
    shared = area(np.maximum(shared, 0.0))
    union = area(sides)[:, None] + area(boxes[:, 2:] - boxes[:, :2]) - shared
    aspect = sides[:, 0] / sides[:, 1]
    good = ((shared / union).max(axis=-1) >= minimum) & (aspect > 0.5) & (aspect < 2.0)
    found = good.argmax()
    return (*low[found].tolist(), *high[found].tolist()) if good[found] else WHOLE


def mosaic_parts(
    rng: np.random.Generator, sources: Sequence[int], size: tuple[int, int], spec: AugmentSpec
) -> list[Part]:
    """Lays windows of `MOSAIC_PARTS` images, at the places `sources` of a group, around a random meeting point.

    Each window is drawn between the quadrant at the scale of the plain stretch and as much of the image as the
    quadrant's shape allows.

    Returns:
        The parts at the top left, top right, bottom left and bottom right.
    """
    y, x = (round(rng.uniform(*spec.mosaic_center) * side) for side in size)
    parts = []
    for quadrant, source in enumerate(sources):
        low, right = divmod(quadrant, 2)
        part = (size[0] - y if low else y, size[1] - x if right else x)
        width, height = part[1] / size[1], part[0] / size[0]
        zoom = rng.uniform(1.0, 1.0 / max(width, height))
        window = slide_window(rng, width * zoom, height * zoom)
        parts.append(Part(source, window, (y if low else 0, x if right else 0), part))
    return parts


def draw_colors(rng: np.random.Generator, count: int, spec: AugmentSpec) -> Colors:
    """Draws changes of hue, saturation, contrast and brightness for `count` images."""
    turn, saturation, contrast, brightness = rng.uniform(-1.0, 1.0, [4, count, 1, 1])
    angle = 2.0 * math.pi * spec.hue * turn
    hue = _HUE_KEPT + np.cos(angle) * _HUE_COSINE + np.sin(angle) * _HUE_SINE
    saturation = 1.0 + spec.saturation * saturation
    contrast = 1.0 + spec.contrast * contrast
    # Turning the hue keeps the luma, so mixing with the luma may come after it.
    matrix = contrast * (saturation * hue + (1.0 - saturation) * _TO_LUMA)
    shift = 127.5 * (1.0 - contrast) + 255.0 * spec.brightness * brightness
    return Colors(matrix.swapaxes(-1, -2).astype(np.float32), shift[:, 0, 0].astype(np.float32))


def area(sides: np.ndarray) -> np.ndarray:
    """Areas of sides `[..., 2]`."""
    return sides[..., 0] * sides[..., 1]


def slide_window(rng: np.random.Generator, width: float, height: float) -> Window:
    """A window of these sides at a random place: inside the image where it is smaller, around it where larger."""
    x, y = rng.random() * (1.0 - width), rng.random() * (1.0 - height)
    return (x, y, x + width, y + height)
