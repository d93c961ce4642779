"""Batches of images and label images; a training batch is a function of (seed, step), so a run can resume anywhere."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_lightdet.data.augmentation.colors import Colors, change_colors, draw_colors
from keras_lightdet.data.augmentation.spec import SegmentationAugmentSpec
from keras_lightdet.data.augmentation.windows import WHOLE, Window, slide_window
from keras_lightdet.data.image_reader import ENCODED_IMAGE_SPEC, FILL, EncodedImage, ImageReader, decode
from keras_lightdet.data.issues import DecodeFailures
from keras_lightdet.data.pipeline import from_numpy, parallel_map, shuffled_indices, single_threaded_ops
from keras_lightdet.data.segmentation.records import SegmentationData
from keras_lightdet.errors import DataError
from keras_lightdet.images import to_uint8
from keras_lightdet.labels import IGNORE
from keras_lightdet.types import SegmentationTargets, Size


class _Plan(NamedTuple):
    """The augmentation of one image.

    Attributes:
        window: Float32 `[4]`, see `cut_window`.
        flip: Bool.
        colors: Of the image.
    """

    window: np.ndarray | tf.Tensor
    flip: np.ndarray | tf.Tensor
    colors: Colors


_PLAN_SPEC = _Plan(
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
    """Builds an endless stream of shuffled, augmented batches.

    The batch of step n depends only on the data, the arguments and n.

    Args:
        data: The training split.
        image_size: `(height, width)` of the network input, to which whole images are resized.
        batch_size: Images per batch.
        seed: Seed of the shuffle and the augmentation.
        augment: Settings of the augmentation; None applies none.
        crop_size: `(height, width)` of the crops from the scaled images; None takes `image_size`.
        start_step: Number of steps already done.
        strict: Whether to fail at a file that cannot be used, instead of logging it and taking the next record.
        failures: Counts the files that cannot be used.

    Returns:
        Batches `(images, targets)`: uint8 `[B, H, W, 3]` and `SegmentationTargets` with uint8 labels, which are
        `IGNORE` outside the image too.
    """
    crop_size = crop_size or image_size
    crop_shares = np.divide(crop_size, image_size)
    reader = ImageReader([record.path for record in data.records], failures, strict=strict)
    labels_spec, sources_spec = tf.TensorSpec([None, None], tf.uint8), tf.TensorSpec([1], tf.int32)

    def read(position: np.ndarray, index: np.ndarray) -> tuple[tuple[bytes, np.ndarray], np.ndarray, _Plan, np.ndarray]:
        image, labels = _read_pair(reader, data, int(index))
        plan = _draw(np.random.default_rng([seed, int(position)]), augment, crop_shares)
        return image.values(), labels, plan, np.array([image.source], np.int32)

    def make(position: tf.Tensor) -> tuple[tf.Tensor, SegmentationTargets]:
        index = shuffled_indices(position[None], len(data), seed)[0]
        spec = ENCODED_IMAGE_SPEC, labels_spec, _PLAN_SPEC, sources_spec
        encoded, labels, plan, sources = from_numpy(read, [position, index], spec)
        image, labels = cut_window(decode(*encoded), labels, plan.window, crop_size)
        image = to_uint8(change_colors(image, plan.colors))
        image, labels = tf.cond(plan.flip, lambda: (image[:, ::-1], labels[:, ::-1]), lambda: (image, labels))
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
    below, above = (
        tf.cast(
            tf.gather(image, tf.clip_by_value(tf.cast(first, tf.int32) + step, 0, count - 1), axis=axis), tf.float32
        )
        for step in (0, 1)
    )
    return below + (above - below) * weight


def _draw(rng: np.random.Generator, augment: SegmentationAugmentSpec | None, crop_shares: np.ndarray) -> _Plan:
    """Draws the augmentation for a crop of `crop_shares` `(y, x)` of the image."""
    if augment is None:
        window = slide_window(rng, *crop_shares[::-1]) if np.any(crop_shares != 1) else WHOLE
        return _as_plan(window, False, _NO_COLORS)
    low, high = augment.scales
    scale = low * (high / low) ** rng.random()
    window = slide_window(rng, *(crop_shares[::-1] / scale))
    flip = rng.random() < augment.flip
    if rng.random() >= augment.color:
        return _as_plan(window, flip, _NO_COLORS)
    colors = draw_colors(rng, 1, augment)
    return _as_plan(window, flip, Colors(colors.matrix[0], colors.shift[0]))


def _as_plan(window: Window, flip: bool, colors: Colors) -> _Plan:
    return _Plan(np.array(window, np.float32), np.array(flip), colors)


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
