"""Batches of images and label images; a training batch is a function of (seed, step), so a run can resume anywhere."""

from typing import TypeAlias

import numpy as np
import tensorflow as tf

from keras_lightdet.data.augmentation.colors import Colors, change_colors, draw_colors
from keras_lightdet.data.augmentation.spec import SegmentationAugmentSpec
from keras_lightdet.data.augmentation.windows import WHOLE, slide_window
from keras_lightdet.data.image_reader import ENCODED_SPEC, FILL, Encoded, EncodedImage, ImageReader, decode
from keras_lightdet.data.issues import DecodeFailures
from keras_lightdet.data.pipeline import from_numpy, parallel_map, shuffled_indices, single_threaded_ops
from keras_lightdet.data.segmentation.records import SegmentationData
from keras_lightdet.errors import DataError
from keras_lightdet.images import to_uint8
from keras_lightdet.labels import IGNORE
from keras_lightdet.types import SegmentationTargets, Size

# The window, see `cut_window`; whether to flip it; its colors.
_Plan: TypeAlias = tuple[np.ndarray, bool, Colors]
_PLAN_SPEC = (
    tf.TensorSpec([4], tf.float32),
    tf.TensorSpec([], tf.bool),
    Colors(tf.TensorSpec([3, 3], tf.float32), tf.TensorSpec([], tf.float32)),
)
_NO_COLORS = Colors(np.eye(3, dtype=np.float32), np.float32(0.0))


def segmentation_train_batches(
    data: SegmentationData,
    image_size: Size,
    batch_size: int,
    *,
    seed: int,
    augment: SegmentationAugmentSpec | None,
    crop_size: Size | None = None,
    start_step: int = 0,
    strict: bool = False,
    failures: DecodeFailures | None = None,
) -> tf.data.Dataset:
    """Builds an endless stream of shuffled, augmented batches; see `detection_train_batches` for the other arguments.

    Args:
        data: The training split.
        image_size: `(height, width)` of the network input, to which whole images are resized.
        batch_size: Images per batch.
        crop_size: `(height, width)` of the crops from the scaled images; None takes `image_size`.

    Returns:
        Batches `(images, targets)`: uint8 `[B, H, W, 3]` and `SegmentationTargets` with uint8 labels, which are
        `IGNORE` outside the image too.
    """
    crop_size = crop_size or image_size
    crop_shares = np.divide(crop_size, image_size)
    reader = ImageReader([record.path for record in data.records], failures, strict=strict)
    spec = ENCODED_SPEC, tf.TensorSpec([None, None], tf.uint8), tf.TensorSpec([1], tf.int32), _PLAN_SPEC

    def read(position: np.ndarray, index: np.ndarray) -> tuple[Encoded, np.ndarray, np.ndarray, _Plan]:
        image, labels = _read_pair(reader, data, int(index))
        plan = _draw(np.random.default_rng([seed, int(position)]), augment, crop_shares)
        return image.encoded, labels, np.array([image.source], np.int32), plan

    def make(position: tf.Tensor) -> tuple[tf.Tensor, SegmentationTargets]:
        index = shuffled_indices(position[None], len(data), seed)[0]
        encoded, labels, sources, (window, flip, colors) = from_numpy(read, [position, index], spec)
        image, labels = cut_window(decode(*encoded), labels, window, crop_size)
        image = to_uint8(change_colors(image, colors))
        image, labels = tf.cond(flip, lambda: (image[:, ::-1], labels[:, ::-1]), lambda: (image, labels))
        return image, {"labels": labels, "sources": sources}

    elements = parallel_map(tf.data.Dataset.counter(start_step * batch_size), make)
    return single_threaded_ops(elements.batch(batch_size, drop_remainder=True).prefetch(2))


def cut_window(image: tf.Tensor, labels: tf.Tensor, window: tf.Tensor, size: Size) -> tuple[tf.Tensor, tf.Tensor]:
    """Resizes a window of an image and its labels: colors are interpolated, labels take the nearest pixel.

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
    # Whole and downsampled images are sampled as for inference, see `stretch`; upsampled ones at half-pixel centers.
    begin += tf.minimum(scale - 1.0, 0.0) / 2
    positions = [begin[axis] + tf.range(size[axis], dtype=tf.float32) * scale[axis] for axis in (0, 1)]
    nearest = [tf.cast(tf.floor(position + 0.5), tf.int32) for position in positions]
    in_rows, in_columns = ((near >= 0) & (near < extent[axis]) for axis, near in enumerate(nearest))
    rows, columns = (tf.clip_by_value(near, 0, extent[axis] - 1) for axis, near in enumerate(nearest))
    inside = in_rows[:, None] & in_columns
    cut = tf.where(inside, tf.gather(tf.gather(labels, rows), columns, axis=1), tf.constant(IGNORE, tf.uint8))
    pixels = image
    for axis in (0, 1):
        pixels = _interpolate(pixels, positions[axis], extent[axis], axis)
    pixels = tf.where(inside[..., None], pixels, float(FILL))
    return tf.ensure_shape(pixels, [*size, 3]), tf.ensure_shape(cut, size)


def _interpolate(image: tf.Tensor, positions: tf.Tensor, count: tf.Tensor, axis: int) -> tf.Tensor:
    """Interpolates between the two rows or columns around each position."""
    first = tf.floor(positions)
    weight = tf.reshape(positions - first, [-1, 1, 1] if axis == 0 else [-1, 1])
    rows = (tf.clip_by_value(tf.cast(first, tf.int32) + step, 0, count - 1) for step in (0, 1))
    below, above = (tf.cast(tf.gather(image, row, axis=axis), tf.float32) for row in rows)
    return below + (above - below) * weight


def _draw(rng: np.random.Generator, augment: SegmentationAugmentSpec | None, crop_shares: np.ndarray) -> _Plan:
    """Draws the augmentation for a crop of `crop_shares` `(y, x)` of the image."""
    if augment is None:
        window = slide_window(rng, *crop_shares[::-1]) if np.any(crop_shares != 1) else WHOLE
        return np.array(window, np.float32), False, _NO_COLORS
    low, high = augment.scales
    scale = low * (high / low) ** rng.random()
    window = slide_window(rng, *(crop_shares[::-1] / scale))
    flip, colors = rng.random() < augment.flip, _NO_COLORS
    if rng.random() < augment.color:
        drawn = draw_colors(rng, 1, augment)
        colors = Colors(drawn.matrix[0], drawn.shift[0])
    return np.array(window, np.float32), flip, colors


def _read_pair(reader: ImageReader, data: SegmentationData, index: int) -> tuple[EncodedImage, np.ndarray]:
    """Reads an image and its labels, or those of the next record where a file is damaged."""
    for attempt in range(len(data)):
        image = reader.read((index + attempt) % len(data))
        try:
            return image, data.read_labels(image.source)
        except DataError as error:
            if reader.strict:
                raise
            reader.failures.add(data.records[image.source].label_path, error)
    raise DataError(f"Expected readable labels, got none: {list(reader.failures.paths)[:3]}. Inspect the data first.")
