"""Batches of images and their labels; a training batch is a function of (seed, step), so a run can resume at any."""

import os
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_lightdet.data.augmentation.pixels import change_colors
from keras_lightdet.data.augmentation.windows import WHOLE, Colors, draw_colors, slide_window
from keras_lightdet.data.detection.batches import shuffled_indices
from keras_lightdet.data.image_reader import FILL, DecodeFailures, ImageReader, decode
from keras_lightdet.data.segmentation.loading import SegmentationData
from keras_lightdet.errors import DataError
from keras_lightdet.images import to_uint8
from keras_lightdet.labels import IGNORE

_PARALLEL_CALLS = (os.cpu_count() or 1) + 2


@dataclass(frozen=True)
class SegmentationAugmentSpec:
    """How training images and their labels are varied; the scales are BiSeNet's (Yu et al. 2018, section 4.1).

    Attributes:
        flip: Probability of a left-right flip.
        scales: Range of the scale, drawn evenly in log: below 1 the image is padded, above 1 cropped.
        color: Probability of the four changes of color that follow, all together.
        brightness: Largest shift, as a share of 255.
        contrast: Largest change of the factor from 1.
        saturation: Largest change of the factor from 1.
        hue: Largest turn, as a share of the color circle.
    """

    flip: float = 0.5
    scales: tuple[float, float] = (0.75, 2.0)
    color: float = 0.5
    brightness: float = 0.1
    contrast: float = 0.25
    saturation: float = 0.3
    hue: float = 0.03

    def __post_init__(self):
        for name in ("flip", "color"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"Expected {name} to be in 0..1, got {getattr(self, name)!r}.")
        if not 0 < self.scales[0] <= self.scales[1]:
            raise ValueError(f"Expected scales to be a rising pair above 0, got {self.scales!r}.")


def segmentation_train_batches(
    data: SegmentationData,
    image_size: tuple[int, int],
    batch_size: int,
    *,
    seed: int,
    augment: SegmentationAugmentSpec | None,
    crop_size: tuple[int, int] | None = None,
    start_step: int = 0,
    strict: bool = False,
    failures: DecodeFailures | None = None,
) -> tf.data.Dataset:
    """Builds an endless stream of shuffled, augmented batches.

    The batch of step n depends only on the data, the arguments and n.

    Args:
        data: What to draw from.
        image_size: `(height, width)` that whole images are stretched to, as the network will see them.
        batch_size: Images per batch.
        seed: Of the shuffle and the augmentation.
        augment: How images are varied; None leaves them as they are.
        crop_size: `(height, width)` of what is cut out of them, after scaling; None takes `image_size`.
        start_step: Steps already done.
        strict: Fail at a file that cannot be used, instead of naming it, counting it and taking the next record.
        failures: Takes the files that could not be used.

    Returns:
        Batches `(images, targets)`: uint8 `[B, H, W, 3]`, and `{"labels": uint8 [B, H, W] (labels, or IGNORE, also
        outside the image), "sources": int32 [B, 1]}`, the index of the record.
    """
    crop_size = crop_size or image_size
    shares = np.divide(crop_size, image_size)
    failures = failures if failures is not None else DecodeFailures()
    reader = ImageReader(data.records, replace=True, strict=strict, failures=failures)

    def read(position: np.ndarray, index: np.ndarray):
        rng = np.random.default_rng([seed, int(position)])
        picture, labels = _read_pair(reader, data, int(index))
        window, flip, colors = _draw(rng, augment, shares)
        return picture.content, picture.pixels, labels, np.float32(window), flip, *colors, np.int32([picture.index])

    def make(position: tf.Tensor):
        index = shuffled_indices(position[None], len(data), seed)[0]
        content, pixels, labels, window, flip, matrix, shift, source = tf.numpy_function(
            read,
            [position, index],
            [tf.string, tf.uint8, tf.uint8, tf.float32, tf.bool, tf.float32, tf.float32, tf.int32],
        )
        for tensor, shape in (
            (content, []),
            (pixels, [None, None, 3]),
            (labels, [None, None]),
            (window, [4]),
            (flip, []),
            (matrix, [3, 3]),
            (shift, []),
            (source, [1]),
        ):
            tensor.set_shape(shape)
        image, labels = cut_window(decode(content, pixels), labels, window, crop_size)
        image = to_uint8(change_colors(image, Colors(matrix, shift)))
        image, labels = tf.cond(flip, lambda: (image[:, ::-1], labels[:, ::-1]), lambda: (image, labels))
        return image, {"labels": labels, "sources": source}

    make = tf.autograph.experimental.do_not_convert(make)
    pictures = tf.data.Dataset.counter(start_step * batch_size).map(make, num_parallel_calls=_PARALLEL_CALLS)
    options = tf.data.Options()
    options.deterministic = True
    options.threading.max_intra_op_parallelism = 1
    return pictures.batch(batch_size, drop_remainder=True).prefetch(2).with_options(options)


def cut_window(image: tf.Tensor, labels: tf.Tensor, window: tf.Tensor, size: tuple[int, int]) -> tuple:
    """Stretches a window of an image to a size: colors between pixels are mixed, labels never.

    Args:
        image: Uint8 `[H, W, 3]`.
        labels: Uint8 `[H, W]`.
        window: Float32 `(x_min, y_min, x_max, y_max)` in fractions of the image; it may reach beyond.
        size: `(height, width)` of the result.

    Returns:
        Float32 `[*size, 3]`, gray outside the image, and uint8 `[*size]`, `IGNORE` there.
    """
    extent = tf.shape(labels)
    low, high = tf.reverse(window[:2], [0]), tf.reverse(window[2:], [0])
    begin, scale = low * tf.cast(extent, tf.float32), (high - low) * tf.cast(extent, tf.float32) / size
    # Whole and shrunk images as the network will see them, see `stretch`; enlarged ones by half-pixel centers.
    begin += tf.minimum(scale - 1.0, 0.0) / 2
    places = [begin[axis] + tf.range(size[axis], dtype=tf.float32) * scale[axis] for axis in (0, 1)]
    nearest = [tf.cast(tf.floor(place + 0.5), tf.int32) for place in places]
    inside = [(near >= 0) & (near < extent[axis]) for axis, near in enumerate(nearest)]
    rows, columns = (tf.clip_by_value(near, 0, extent[axis] - 1) for axis, near in enumerate(nearest))
    within = inside[0][:, None] & inside[1]
    cut = tf.where(within, tf.gather(tf.gather(labels, rows), columns, axis=1), tf.constant(IGNORE, tf.uint8))
    mixed = image
    for axis in (0, 1):
        mixed = _between(mixed, places[axis], extent[axis], axis)
    mixed = tf.where(within[..., None], mixed, float(FILL))
    return tf.ensure_shape(mixed, [*size, 3]), tf.ensure_shape(cut, size)


def _between(image: tf.Tensor, places: tf.Tensor, count: tf.Tensor, axis: int) -> tf.Tensor:
    """Mixes the two rows or columns around each place."""
    first = tf.floor(places)
    share = tf.reshape(places - first, [-1, 1, 1] if axis == 0 else [-1, 1])
    below, above = (
        tf.cast(
            tf.gather(image, tf.clip_by_value(tf.cast(first, tf.int32) + step, 0, count - 1), axis=axis), tf.float32
        )
        for step in (0, 1)
    )
    return below + (above - below) * share


def _draw(rng: np.random.Generator, augment: SegmentationAugmentSpec | None, shares: np.ndarray) -> tuple:
    """Draws the window, whether to flip, and the changes of color, for a crop of `shares` `(y, x)` of the image."""
    same = (np.eye(3, dtype=np.float32), np.float32(0.0))
    if augment is None:
        return slide_window(rng, *shares[::-1]) if np.any(shares != 1) else WHOLE, np.bool_(False), same
    low, high = augment.scales
    scale = low * (high / low) ** rng.random()
    window = slide_window(rng, *(shares[::-1] / scale))
    flip = np.bool_(rng.random() < augment.flip)
    if rng.random() >= augment.color:
        return window, flip, same
    changes = draw_colors(rng, 1, augment)
    return window, flip, (changes.matrix[0], changes.shift[0])


def _read_pair(reader: ImageReader, data: SegmentationData, index: int) -> tuple:
    """Reads an image and its labels, or those of the next record where a file is damaged."""
    for attempt in range(len(data)):
        picture = reader.read((index + attempt) % len(data))
        try:
            return picture, data.read_labels(picture.index)
        except DataError as error:
            if reader.strict:
                raise
            reader.failures.add(data.records[picture.index].label_path, error)
    raise DataError(f"Expected readable labels, got none: {list(reader.failures.paths)[:3]}. Inspect the data first.")
