"""Augmentation in two halves: NumPy plans what becomes of a group of pictures and its boxes, TensorFlow makes pixels.

A window is `(x_min, y_min, x_max, y_max)` in fractions of a picture and may reach beyond it; what lies outside is grey.
Zooming out, cropping and scale jitter only choose windows; a picture is made of one window, or of four (mosaic), each
resampled once. Everything is a pure function of its arguments, the generator's state among them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_lightdet.data.picture_reader import FILL
from keras_lightdet.data.records import ImageRecord
from keras_lightdet.images import resample, to_uint8

Window = tuple[float, float, float, float]
# Pictures of one mosaic, and so of the groups that are read together.
MOSAIC_PARTS = 4
# A box with a shorter side has no pixel left to learn from.
MIN_SIDE = 1.0
WHOLE = (0.0, 0.0, 1.0, 1.0)
_XYXY = [1, 0, 1, 0]  # turns (y, x) into (x, y, x, y)
_CROP_TRIALS = 30
# Hue is turned about the grey axis in the plane of the two chroma axes: to YIQ, a rotation of I and Q, and back.
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
        colour: Probability of the four changes of colour that follow, all together.
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
    colour: float = 0.5
    brightness: float = 0.1
    contrast: float = 0.25
    saturation: float = 0.3
    hue: float = 0.03
    mosaic_until_step: int | None = None
    until_step: int | None = None

    def __post_init__(self):
        for name in ("flip", "zoom_out", "crop", "jitter", "mosaic", "min_visible", "colour"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"Expected {name} to be in 0..1, got {getattr(self, name)!r}.")
        if self.zoom_out + self.crop + self.jitter > 1:
            raise ValueError(
                "Expected zoom_out + crop + jitter to be at most 1, as a picture gets one of them, "
                f"got {self.zoom_out} + {self.crop} + {self.jitter}."
            )


class Part(NamedTuple):
    """What a part of the network's picture shows: a window of one picture of the group.

    Attributes:
        source: Place of that picture in the group.
        window: What of it shows.
        corner: `(y, x)` of the part in the network's picture.
        size: `(height, width)` of the part.
    """

    source: int
    window: Window
    corner: tuple[int, int]
    size: tuple[int, int]


class Cut(NamedTuple):
    """Windows in whole pixels, `(y, x)`; each an int32 `[..., 2]`, and `enlarged` a bool `[...]`.

    Attributes:
        start: Of the rows and columns of the picture that show, the first.
        stop: Behind the last of them.
        first: Where they go in the result, which is grey elsewhere.
        last: Behind that.
        size: `(height, width)` of the result.
        enlarged: A part of a picture that is to be enlarged.
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


class Colours(NamedTuple):
    """Changes of colour: `pixel @ matrix + shift`.

    Attributes:
        matrix: Float32 `[..., 3, 3]`.
        shift: Float32 `[...]`, the same for all channels.
    """

    matrix: np.ndarray | tf.Tensor
    shift: np.ndarray | tf.Tensor


class Plan(NamedTuple):
    """How the pixels of a group of P pictures are made.

    Attributes:
        slices: `[P, MOSAIC_PARTS]`; a picture of one part has it first.
        mosaic: Bool `[P]`: made of all parts; part n is from the n-th picture of the group on from this one.
        coloured: Bool `[P]`.
        colours: `[P]`.
        flip: Bool `[P]`.
    """

    slices: Slice
    mosaic: np.ndarray | tf.Tensor
    coloured: np.ndarray | tf.Tensor
    colours: Colours
    flip: np.ndarray | tf.Tensor


PLAN_SPEC = Plan(
    Slice(
        tf.TensorSpec([MOSAIC_PARTS, MOSAIC_PARTS, 3], tf.int32),
        tf.TensorSpec([MOSAIC_PARTS, MOSAIC_PARTS, 3], tf.int32),
        tf.TensorSpec([MOSAIC_PARTS, MOSAIC_PARTS, 2], tf.int32),
        tf.TensorSpec([MOSAIC_PARTS, MOSAIC_PARTS, 3, 2], tf.int32),
        tf.TensorSpec([MOSAIC_PARTS, MOSAIC_PARTS], tf.bool),
    ),
    tf.TensorSpec([MOSAIC_PARTS], tf.bool),
    tf.TensorSpec([MOSAIC_PARTS], tf.bool),
    Colours(tf.TensorSpec([MOSAIC_PARTS, 3, 3], tf.float32), tf.TensorSpec([MOSAIC_PARTS], tf.float32)),
    tf.TensorSpec([MOSAIC_PARTS], tf.bool),
)


def zoom_out_window(rng: np.random.Generator, spec: AugmentSpec) -> Window:
    """A window of 1 to `zoom_out_max` sides around the picture."""
    side = rng.uniform(1.0, spec.zoom_out_max)
    return _slide(rng, side, side)


def jitter_window(rng: np.random.Generator, spec: AugmentSpec) -> Window:
    """A window that scales the picture by `jitter_scale` and stretches it by up to `jitter_aspect`."""
    low, high = spec.jitter_scale
    scale = low * (high / low) ** rng.random()
    stretch = spec.jitter_aspect ** (rng.random() - 0.5)
    return _slide(rng, stretch / scale, 1.0 / (stretch * scale))


def crop_window(rng: np.random.Generator, boxes: np.ndarray, spec: AugmentSpec) -> Window:
    """The first of some random crops that overlaps a box enough; the whole picture where none does.

    Args:
        rng: Draws.
        boxes: `[G, 4]` xyxy in fractions of the picture.
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
    shared = _area(np.maximum(shared, 0.0))
    union = _area(sides)[:, None] + _area(boxes[:, 2:] - boxes[:, :2]) - shared
    aspect = sides[:, 0] / sides[:, 1]
    good = ((shared / union).max(axis=-1) >= minimum) & (aspect > 0.5) & (aspect < 2.0)
    found = good.argmax()
    return (*low[found].tolist(), *high[found].tolist()) if good[found] else WHOLE


def choose_window(rng: np.random.Generator, boxes: np.ndarray, spec: AugmentSpec) -> Window:
    """Draws one of zooming out, cropping (by `boxes` as in `crop_window`), scale jitter and the whole picture."""
    draw = rng.random()
    if draw < spec.zoom_out:
        return zoom_out_window(rng, spec)
    if draw < spec.zoom_out + spec.crop:
        return crop_window(rng, boxes, spec)
    if draw < spec.zoom_out + spec.crop + spec.jitter:
        return jitter_window(rng, spec)
    return WHOLE


def mosaic_parts(rng: np.random.Generator, first: int, size: tuple[int, int], spec: AugmentSpec) -> list[Part]:
    """Lays windows of a group's pictures, from the one at place `first` on, around a random meeting point.

    Each window is drawn between the quadrant at the scale of the plain stretch and as much of the picture as the
    quadrant's shape allows.

    Returns:
        The parts at the top left, top right, bottom left and bottom right.
    """
    y, x = (round(rng.uniform(*spec.mosaic_centre) * side) for side in size)
    parts = []
    for quadrant in range(MOSAIC_PARTS):
        low, right = divmod(quadrant, 2)
        part = (size[0] - y if low else y, size[1] - x if right else x)
        width, height = part[1] / size[1], part[0] / size[0]
        zoom = rng.uniform(1.0, 1.0 / max(width, height))
        window = _slide(rng, width * zoom, height * zoom)
        parts.append(Part((first + quadrant) % MOSAIC_PARTS, window, (y if low else 0, x if right else 0), part))
    return parts


def plan_pictures(
    rng: np.random.Generator,
    extents: np.ndarray,
    records: Sequence[ImageRecord],
    size: tuple[int, int],
    spec: AugmentSpec,
    steps: np.ndarray,
    max_boxes: int,
) -> tuple[Plan, dict[str, np.ndarray], np.ndarray]:
    """Draws what becomes of a group of pictures.

    Args:
        rng: Draws.
        extents: Int `[MOSAIC_PARTS, 2]`, `(height, width)` of the pictures.
        records: Theirs.
        size: `(height, width)` of the network input.
        spec: What to draw.
        steps: Int `[MOSAIC_PARTS]`, the training steps that the pictures are for.
        max_boxes: Boxes per picture in the result.

    Returns:
        `(plan, targets, sources)`: targets as `pad_boxes` gives them, and sources int32 `[P, MOSAIC_PARTS]`: the places
        in the group of the pictures that each is made of (-1 pads).
    """
    count = len(extents)
    active = _before(steps, spec.until_step)
    mosaic, coloured, flip = active & (rng.random([3, count]) < [[spec.mosaic], [spec.colour], [spec.flip]])
    mosaic &= _before(steps, spec.mosaic_until_step)
    parts, slots = [], []
    for place in range(count):
        if mosaic[place]:
            made = mosaic_parts(rng, place, size, spec)
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
    mirrored = flip[targets["picture"]]
    targets["boxes"][mirrored] = flip_boxes(targets["boxes"][mirrored], size[1])
    sources = _spread(shown.astype(np.int32), slots, count, -1)
    slices = Slice(*(_spread(values, slots, count, 0) for values in slices_of(cut)))
    plan = Plan(slices, mosaic, coloured, draw_colours(rng, count, spec), flip)
    return plan, pad_boxes(targets, count, max_boxes), sources


def cut_windows(extents: np.ndarray, windows: np.ndarray, sizes: np.ndarray) -> Cut:
    """Rounds windows to whole pixels.

    Args:
        extents: Int `[..., 2]`, `(height, width)` of the pictures.
        windows: `[..., 4]`.
        sizes: Int `[..., 2]`, `(height, width)` that the windows are stretched to.
    """
    extents, sizes = np.int32(extents), np.int32(sizes)
    # A window that starts in the last half of a picture's last pixel would show none of it.
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
        boxes: `[K, 4]` in pixels of their pictures.
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
    hidden = _area(sides) < min_visible * _area(moved[:, 2:] - moved[:, :2])
    return clipped, (sides >= MIN_SIDE).all(axis=-1), hidden


def flip_boxes(boxes: np.ndarray, width: int) -> np.ndarray:
    """Mirrors boxes `[K, 4]` in a picture of that width."""
    x_min, y_min, x_max, y_max = boxes.T
    return np.stack([width - x_max, y_min, width - x_min, y_max], axis=-1)


def pad_boxes(targets: dict[str, np.ndarray], count: int, max_boxes: int) -> dict[str, np.ndarray]:
    """Sorts each picture's boxes by falling area and pads or cuts them to `max_boxes`.

    Args:
        targets: Of all pictures in one, and `picture` int `[K]`, whose each box is.
        count: Number of pictures.
        max_boxes: Boxes per picture in the result.

    Returns:
        boxes float32 `[count, max_boxes, 4]`, labels int32 `[count, max_boxes]` (-1 pads), ignore uint8 alike.
    """
    picture, areas = targets["picture"], _area(targets["boxes"][:, 2:] - targets["boxes"][:, :2])
    order = np.lexsort([-areas, picture])
    picture = picture[order]
    rank = np.arange(len(picture)) - np.searchsorted(picture, picture)
    order, place = order[rank < max_boxes], (picture[rank < max_boxes], rank[rank < max_boxes])
    padded = {
        "boxes": np.zeros([count, max_boxes, 4], np.float32),
        "labels": np.full([count, max_boxes], -1, np.int32),
        # No bool: Keras averages a first batch over the replicas of a distribution strategy.
        "ignore": np.zeros([count, max_boxes], np.uint8),
    }
    for key, values in padded.items():
        values[place] = targets[key][order]
    return padded


def draw_colours(rng: np.random.Generator, count: int, spec: AugmentSpec) -> Colours:
    """Draws changes of hue, saturation, contrast and brightness for `count` pictures."""
    turn, saturation, contrast, brightness = rng.uniform(-1.0, 1.0, [4, count, 1, 1])
    angle = 2.0 * math.pi * spec.hue * turn
    hue = _HUE_KEPT + np.cos(angle) * _HUE_COSINE + np.sin(angle) * _HUE_SINE
    saturation = 1.0 + spec.saturation * saturation
    contrast = 1.0 + spec.contrast * contrast
    # Turning the hue keeps the luma, so mixing with the luma may come after it.
    matrix = contrast * (saturation * hue + (1.0 - saturation) * _TO_LUMA)
    shift = 127.5 * (1.0 - contrast) + 255.0 * spec.brightness * brightness
    return Colours(matrix.swapaxes(-1, -2).astype(np.float32), shift[:, 0, 0].astype(np.float32))


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


def make_pictures(images: Sequence[tf.Tensor], plan: Plan, size: tuple[int, int]) -> tf.Tensor:
    """Makes the network's pictures.

    Args:
        images: The group, uint8 `[height, width, 3]` each.
        plan: Of `plan_pictures`, for the group.
        size: `(height, width)` of the network input.

    Returns:
        Uint8 `[P, *size, 3]`.
    """
    plans = _unstack(plan)
    return tf.stack(
        [_make_picture([*images[place:], *images[:place]], plans[place], size) for place in range(len(plans))]
    )


def cut_pixels(image: tf.Tensor, cut: Slice) -> tf.Tensor:
    """Cuts what shows of a window out of a picture: float32 `[height, width, 3]`, without the margins."""
    part = tf.slice(image, cut.begin, cut.extent)[None]
    # Whole and shrunk pictures are what the network will see; a small part enlarged `resample` would move by pixels.
    return tf.cond(
        cut.enlarged,
        lambda: tf.raw_ops.ResizeBilinear(images=part, size=cut.shown, half_pixel_centers=True)[0],
        lambda: resample(part, cut.shown)[0],
    )


def add_margins(image: tf.Tensor, margins: tf.Tensor) -> tf.Tensor:
    """Lays a float picture on grey, `tf.pad`'s `margins` around it."""
    return tf.cond(
        tf.reduce_any(margins > 0), lambda: tf.pad(image, margins, constant_values=float(FILL)), lambda: image
    )


def change_colours(image: tf.Tensor, colours: Colours) -> tf.Tensor:
    """Changes the colours of a float `[H, W, 3]` picture; the result may leave 0..255."""
    changed = tf.matmul(tf.reshape(image, [-1, 3]), colours.matrix) + colours.shift
    return tf.reshape(changed, tf.shape(image))


def _make_picture(images: Sequence[tf.Tensor], plan: Plan, size: tuple[int, int]) -> tf.Tensor:
    """One picture, out of the group from the place of its own on."""
    slices = _unstack(plan.slices)

    def mosaic():  # whose windows lie within their pictures
        parts = [cut_pixels(*pair) for pair in zip(images, slices, strict=True)]
        return tf.concat([tf.concat(parts[:2], axis=1), tf.concat(parts[2:], axis=1)], axis=0)

    def one():
        return add_margins(cut_pixels(images[0], slices[0]), slices[0].margins)

    made = tf.cond(plan.mosaic, mosaic, one)
    made = tf.ensure_shape(made, [*size, 3])
    made = to_uint8(tf.cond(plan.coloured, lambda: change_colours(made, plan.colours), lambda: made))
    # The flip comes last, as bytes are quicker to mirror than floats.
    return tf.cond(plan.flip, lambda: tf.reverse(made, [1]), lambda: made)


def _unstack(structure) -> list:
    """A structure of tensors for each entry of the first axis."""
    columns = [tf.unstack(values) for values in tf.nest.flatten(structure)]
    return [tf.nest.pack_sequence_as(structure, row) for row in zip(*columns, strict=True)]


def _join(records: Sequence[ImageRecord], pictures, cut: Cut, corners, min_visible: float) -> dict[str, np.ndarray]:
    """The boxes of N parts in pixels of the pictures they are parts of, and `picture` `[K]`, which that is."""
    boxes, labels, ignore = (
        np.concatenate([getattr(record, name) for record in records]) for name in ("boxes", "labels", "ignore")
    )
    part = np.repeat(np.arange(len(records)), [len(record.labels) for record in records])
    boxes, seen, hidden = move_boxes(boxes, Cut(*(values[part] for values in cut)), min_visible)
    joined = {
        "boxes": boxes + corners[part][:, _XYXY].astype(np.float32),
        "labels": labels,
        "ignore": ignore.astype(bool) | hidden,
        "picture": pictures[part],
    }
    return {name: values[seen] for name, values in joined.items()}


def _spread(values: np.ndarray, slots: Sequence[int], count: int, fill: int) -> np.ndarray:
    """Rows `[N, ...]` at their slots among `[count, MOSAIC_PARTS, ...]`."""
    spread = np.full([count * MOSAIC_PARTS, *values.shape[1:]], fill, values.dtype)
    spread[slots] = values
    return spread.reshape(count, MOSAIC_PARTS, *values.shape[1:])


def _slide(rng: np.random.Generator, width: float, height: float) -> Window:
    """A window of these sides at a random place: inside the picture where it is smaller, around it where larger."""
    x, y = rng.random() * (1.0 - width), rng.random() * (1.0 - height)
    return (x, y, x + width, y + height)


def _before(steps: np.ndarray, limit: int | None) -> np.ndarray:
    return np.full(len(steps), True) if limit is None else steps < limit


def _round(values: np.ndarray) -> np.ndarray:
    return np.rint(values).astype(np.int32)


def _area(sides: np.ndarray) -> np.ndarray:
    return sides[..., 0] * sides[..., 1]
