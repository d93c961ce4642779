"""Augmentation whose geometry is one resampling: choose a window of the picture, cut it, move the boxes alike.

A window is `(x_min, y_min, x_max, y_max)` in fractions of the picture and may reach beyond it; what lies outside is
grey. Zooming out, cropping and scale jitter only choose windows, `place` cuts them. Everything is a pure function of
its arguments, the seed among them.
"""

import math
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_lightdet.data.picture_reader import FILL
from keras_lightdet.images import resample, to_uint8

Targets = dict[str, tf.Tensor]
# A box with a shorter side has no pixel left to learn from.
MIN_SIDE = 1.0
WHOLE = (0.0, 0.0, 1.0, 1.0)
_CROP_TRIALS = 30
# Hue is turned about the grey axis in the plane of the two chroma axes: to YIQ, a rotation of I and Q, and back.
_YIQ = np.array([(0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)])
_TO_LUMA = np.float32([_YIQ[0]] * 3)
_HUE_KEPT, _HUE_COSINE, _HUE_SINE = (
    np.float32(np.linalg.inv(_YIQ) @ np.array(turn) @ _YIQ)
    for turn in (
        [(1, 0, 0), (0, 0, 0), (0, 0, 0)],
        [(0, 0, 0), (0, 1, 0), (0, 0, 1)],
        [(0, 0, 0), (0, 0, -1), (0, 1, 0)],
    )
)


@dataclass(frozen=True)
class AugmentSpec:
    """How training pictures are varied; the defaults are for training from scratch on little data.

    Attributes:
        flip: Probability of a left-right flip.
        zoom_out: Probability that the picture is laid on a larger grey canvas.
        zoom_out_max: Largest canvas, in sides of the picture.
        crop: Probability of an SSD crop (Liu et al. 2016, sec. 2.2).
        crop_min_ious: The crop overlaps some box by at least one of these, drawn at random.
        crop_min_side: Smallest crop, in sides of the picture.
        jitter: Probability of scale jitter.
        jitter_scale: Range of the scale: below 1 the picture is padded, above 1 cropped.
        jitter_aspect: Largest stretch of the aspect ratio, both ways.
        mosaic: Probability that a picture is made of four (Bochkovskiy et al. 2020, sec. 3.3).
        mosaic_centre: Range of the meeting point, in sides of the network input.
        min_visible: A box of which less than this share of the area is left becomes `ignore`.
        brightness: Largest shift, as a share of 255.
        contrast: Largest change of the factor from 1.
        saturation: Largest change of the factor from 1.
        hue: Largest turn, as a share of the colour circle.
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
    mosaic_centre: tuple[float, float] = (0.3, 0.7)
    min_visible: float = 0.3
    brightness: float = 0.1
    contrast: float = 0.25
    saturation: float = 0.3
    hue: float = 0.03
    mosaic_until_step: int | None = None
    until_step: int | None = None

    def __post_init__(self):
        for name in ("flip", "zoom_out", "crop", "jitter", "mosaic", "min_visible"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"Expected {name} to be in 0..1, got {getattr(self, name)!r}.")
        if self.zoom_out + self.crop + self.jitter > 1:
            raise ValueError(
                "Expected zoom_out + crop + jitter to be at most 1, as a picture gets one of them, "
                f"got {self.zoom_out} + {self.crop} + {self.jitter}."
            )


def zoom_out_window(seed: tf.Tensor, spec: AugmentSpec) -> tf.Tensor:
    """A window of 1 to `zoom_out_max` sides around the picture."""
    draw = tf.random.stateless_uniform([3], seed)
    side = 1.0 + draw[0] * (spec.zoom_out_max - 1.0)
    return _slide(tf.stack([side, side]), draw[1:])


def jitter_window(seed: tf.Tensor, spec: AugmentSpec) -> tf.Tensor:
    """A window that scales the picture by `jitter_scale` and stretches it by up to `jitter_aspect`."""
    draw = tf.random.stateless_uniform([4], seed)
    low, high = spec.jitter_scale
    scale = low * (high / low) ** draw[0]
    stretch = tf.sqrt(spec.jitter_aspect ** (2.0 * draw[1] - 1.0))
    return _slide(tf.stack([stretch, 1.0 / stretch]) / scale, draw[2:])


def crop_window(seed: tf.Tensor, boxes: tf.Tensor, valid: tf.Tensor, spec: AugmentSpec) -> tf.Tensor:
    """The first of some random crops that overlaps a box enough; the whole picture where none does.

    Args:
        seed: Int `[2]`.
        boxes: `[G, 4]` xyxy in fractions of the picture.
        valid: Bool `[G]`.
        spec: Sets the overlaps and the smallest crop.
    """
    draw = tf.random.stateless_uniform([_CROP_TRIALS + 1, 4], seed)
    minimum = tf.gather(spec.crop_min_ious, tf.cast(draw[0, 0] * len(spec.crop_min_ious), tf.int32))
    sides = spec.crop_min_side + draw[1:, :2] * (1.0 - spec.crop_min_side)
    corners = draw[1:, 2:] * (1.0 - sides)
    windows = tf.concat([corners, corners + sides], axis=-1)
    shared = tf.minimum(windows[:, None, 2:], boxes[:, 2:]) - tf.maximum(windows[:, None, :2], boxes[:, :2])
    shared = tf.reduce_prod(tf.maximum(shared, 0.0), axis=-1)
    areas = tf.reduce_prod(boxes[:, 2:] - boxes[:, :2], axis=-1)
    union = tf.reduce_prod(sides, axis=-1)[:, None] + areas - shared
    best = tf.reduce_max(tf.where(valid, shared / union, 0.0), axis=-1)
    aspect = sides[:, 0] / sides[:, 1]
    good = (best >= minimum) & (aspect > 0.5) & (aspect < 2.0)
    windows = tf.concat([windows, [WHOLE]], axis=0)
    return windows[tf.argmax(tf.concat([good, [True]], axis=0))]


def choose_window(seed: tf.Tensor, image: tf.Tensor, targets: Targets, spec: AugmentSpec) -> tf.Tensor:
    """Draws one of zooming out, cropping, scale jitter and the whole picture."""
    seeds = tf.random.split(seed, 2)
    draw = tf.random.stateless_uniform([], seeds[0])
    scale = tf.cast(tf.tile(tf.shape(image)[1::-1], [2]), tf.float32)
    boxes, valid = targets["boxes"] / scale, targets["labels"] >= 0
    return tf.case(
        [
            (draw < spec.zoom_out, lambda: zoom_out_window(seeds[1], spec)),
            (draw < spec.zoom_out + spec.crop, lambda: crop_window(seeds[1], boxes, valid, spec)),
            (draw < spec.zoom_out + spec.crop + spec.jitter, lambda: jitter_window(seeds[1], spec)),
        ],
        default=lambda: tf.constant(WHOLE),
    )


def place(
    image: tf.Tensor, targets: Targets, window: tf.Tensor, size: tuple, min_visible: float
) -> tuple[tf.Tensor, Targets]:
    """Cuts a window out of a picture and stretches it to `size`.

    Args:
        image: Uint8 `[height, width, 3]`.
        targets: boxes `[G, 4]` in pixels of `image`, labels `[G]`, ignore `[G]`.
        window: `[4]` in fractions of the picture; rounded to whole pixels, and the boxes follow the rounding.
        size: `(height, width)` of the result.
        min_visible: A box that keeps a smaller share of its area becomes `ignore`.

    Returns:
        Float32 `[*size, 3]`, and the targets in its pixels: boxes clipped, those without `MIN_SIDE` left padded away.
    """
    size = tf.stack(size)
    extent = tf.shape(image)[:2]
    low, high = (_round(corner * tf.cast(extent, tf.float32)) for corner in (window[1::-1], window[:1:-1]))
    high = tf.maximum(high, low + 1)
    start = tf.clip_by_value(low, 0, extent - 1)  # of the part of the picture that shows, (y, x)
    stop = tf.maximum(tf.minimum(high, extent), start + 1)
    scale = tf.cast(size, tf.float32) / tf.cast(high - low, tf.float32)
    first = tf.clip_by_value(_round(tf.cast(start - low, tf.float32) * scale), 0, size - 1)  # of where it goes
    last = tf.clip_by_value(_round(tf.cast(stop - low, tf.float32) * scale), first + 1, size)
    part = image[None, start[0] : stop[0], start[1] : stop[1]]
    # Whole and shrunk pictures are what the network will see; a small part enlarged `resample` would move by pixels.
    like_inference = tf.reduce_all(last - first <= stop - start) | tf.reduce_all((low == 0) & (high == extent))
    resize = [lambda: resample(part, last - first), lambda: tf.image.resize(part, last - first)]
    part = tf.cond(like_inference, *resize)[0]
    margins = tf.pad(tf.stack([first, size - last], axis=1), [[0, 1], [0, 0]])
    piece = tf.pad(part, margins, constant_values=float(FILL))
    start, stop, first, last, limits = (_corners(value) for value in (start, stop, first, last, size))
    boxes = first + (targets["boxes"] - start) * (last - first) / (stop - start)
    return piece, _clip(boxes, targets, limits, min_visible)


def flip_left_right(image: tf.Tensor, targets: Targets) -> tuple[tf.Tensor, Targets]:
    """Mirrors a picture `[H, W, 3]` and its boxes; padding stays zero."""
    width = tf.cast(tf.shape(image)[1], tf.float32)
    x_min, y_min, x_max, y_max = tf.unstack(targets["boxes"], axis=-1)
    boxes = tf.stack([width - x_max, y_min, width - x_min, y_max], axis=-1)
    boxes = tf.where((targets["labels"] >= 0)[:, None], boxes, 0.0)
    return tf.reverse(image, [1]), {**targets, "boxes": boxes}


def place_mosaic(
    seed: tf.Tensor, pictures: list[tuple[tf.Tensor, Targets]], size: tuple[int, int], spec: AugmentSpec
) -> tuple[tf.Tensor, Targets]:
    """Lays parts of four pictures around a random meeting point.

    Each part shows a window of its picture that is drawn between the quadrant at the scale of the plain stretch and as
    much of the picture as the quadrant's shape allows.

    Args:
        seed: Int `[2]`.
        pictures: Four `(image, targets)`: top left, top right, bottom left, bottom right.
        size: `(height, width)` of the result.
        spec: Sets the meeting point and what counts as visible.

    Returns:
        Float32 `[*size, 3]` and the joined targets, `[4 G]`.
    """
    seeds = tf.random.split(seed, 5)
    low, high = spec.mosaic_centre
    centre = low + tf.random.stateless_uniform([2], seeds[4]) * (high - low)
    middle = [tf.cast(tf.round(centre[axis] * size[axis]), tf.int32) for axis in (0, 1)]
    pieces, joined = [], []
    for quadrant, (image, targets) in enumerate(pictures):
        row, column = divmod(quadrant, 2)
        height = size[0] - middle[0] if row else middle[0]
        width = size[1] - middle[1] if column else middle[1]
        share = tf.stack([tf.cast(width, tf.float32) / size[1], tf.cast(height, tf.float32) / size[0]])
        draw = tf.random.stateless_uniform([3], seeds[quadrant])
        fullest = 1.0 / tf.reduce_max(share)
        window = _slide(share * (1.0 + draw[0] * (fullest - 1.0)), draw[1:])
        piece, targets = place(image, targets, window, (height, width), spec.min_visible)
        offset = tf.cast(tf.stack([column * middle[1], row * middle[0]] * 2), tf.float32)
        boxes = tf.where((targets["labels"] >= 0)[:, None], targets["boxes"] + offset, 0.0)
        pieces.append(piece)
        joined.append({**targets, "boxes": boxes})
    rows = [tf.concat(pieces[:2], axis=1), tf.concat(pieces[2:], axis=1)]
    image = tf.ensure_shape(tf.concat(rows, axis=0), [*size, 3])
    return image, {key: tf.concat([t[key] for t in joined], axis=0) for key in ("boxes", "labels", "ignore")}


def change_colours(seed: tf.Tensor, image: tf.Tensor, spec: AugmentSpec) -> tf.Tensor:
    """Changes hue, saturation, contrast and brightness of a float `[H, W, 3]` picture; returns it as uint8."""
    draw = 2.0 * tf.random.stateless_uniform([4], seed) - 1.0
    angle = 2.0 * math.pi * spec.hue * draw[0]
    hue = _HUE_KEPT + tf.cos(angle) * _HUE_COSINE + tf.sin(angle) * _HUE_SINE
    saturation = 1.0 + spec.saturation * draw[1]
    contrast = 1.0 + spec.contrast * draw[2]
    # Turning the hue keeps the luma, so mixing with the luma may come after it.
    colours = contrast * (saturation * hue + (1.0 - saturation) * _TO_LUMA)
    shift = 127.5 * (1.0 - contrast) + 255.0 * spec.brightness * draw[3]
    changed = tf.matmul(tf.reshape(image, [-1, 3]), colours, transpose_b=True)
    return to_uint8(tf.reshape(changed, tf.shape(image)), shift)


def pad_boxes(targets: Targets, max_boxes: int) -> Targets:
    """Sorts boxes by falling area and pads or cuts them to `max_boxes`."""
    boxes, labels = targets["boxes"], targets["labels"]
    room = tf.maximum(max_boxes - tf.shape(labels)[0], 0)
    boxes = tf.pad(boxes, [[0, room], [0, 0]])
    labels = tf.pad(labels, [[0, room]], constant_values=-1)
    ignore = tf.pad(targets["ignore"], [[0, room]])
    areas = tf.where(labels >= 0, tf.reduce_prod(boxes[:, 2:] - boxes[:, :2], axis=-1), -1.0)
    _, order = tf.math.top_k(areas, max_boxes)
    return {
        "boxes": tf.ensure_shape(tf.gather(boxes, order), [max_boxes, 4]),
        "labels": tf.ensure_shape(tf.gather(labels, order), [max_boxes]),
        "ignore": tf.ensure_shape(tf.gather(ignore, order), [max_boxes]),
    }


def _slide(sides: tf.Tensor, draw: tf.Tensor) -> tf.Tensor:
    """A window of `[2]` sides at a random place: inside the picture where it is smaller, around it where larger."""
    corner = draw * (1.0 - sides)
    return tf.concat([corner, corner + sides], axis=0)


def _round(values: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.round(values), tf.int32)


def _corners(values: tf.Tensor) -> tf.Tensor:
    """`(y, x)` as float `(x, y, x, y)`."""
    return tf.tile(tf.cast(values[::-1], tf.float32), [2])


def _clip(boxes: tf.Tensor, targets: Targets, limits: tf.Tensor, min_visible: float) -> Targets:
    """Clips boxes to `limits` (width, height, width, height) and settles what becomes of those cut away."""
    clipped = tf.clip_by_value(boxes, 0.0, limits)
    sides = clipped[:, 2:] - clipped[:, :2]
    whole = tf.reduce_prod(boxes[:, 2:] - boxes[:, :2], axis=-1)
    visible = tf.math.divide_no_nan(tf.reduce_prod(sides, axis=-1), whole)
    valid = (targets["labels"] >= 0) & tf.reduce_all(sides >= MIN_SIDE, axis=-1)
    return {
        "boxes": tf.where(valid[:, None], clipped, 0.0),
        "labels": tf.where(valid, targets["labels"], -1),
        "ignore": valid & (targets["ignore"] | (visible < min_visible)),
    }
