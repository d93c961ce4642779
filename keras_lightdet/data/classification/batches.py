"""Batches of images of one class each; a training batch is a function of (seed, step), so a run can resume at any."""

import os

import numpy as np
import tensorflow as tf

from keras_lightdet.data.classification.folders import ClassificationData
from keras_lightdet.data.detection.batches import shuffled_indices
from keras_lightdet.data.image_reader import DecodeFailures, ImageReader, decode
from keras_lightdet.images import center_crop

AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)  # of a crop, as shares of the image (Szegedy et al. 2015, section 6)
JITTER = 0.4  # largest change of brightness, contrast and saturation, as a share
_PARALLEL_CALLS = (os.cpu_count() or 1) + 4


def classification_train_batches(
    data: ClassificationData,
    image_size: int,
    batch_size: int,
    *,
    seed: int,
    start_step: int = 0,
    failures: DecodeFailures | None = None,
) -> tf.data.Dataset:
    """Builds an endless stream of shuffled batches: a random crop, mirrored or not, its colors changed.

    Args:
        data: What to draw from.
        image_size: Side of the network input in pixels.
        batch_size: Images per batch.
        seed: Of the shuffle and the augmentation.
        start_step: Steps already done.
        failures: Takes the files that could not be decoded; the next image stands in for one.

    Returns:
        Batches `(images, labels)`: float32 `[B, S, S, 3]`, 0..255, and one-hot float32 `[B, num_classes]`.
    """
    read = _reader(data, failures)

    def make(position: tf.Tensor):
        index = shuffled_indices(position[None], len(data), seed)[0]
        image, label = read(index)
        draws = tf.random.split(tf.stack([tf.constant(seed, tf.int64), position]), 5)
        return _vary(image, draws, image_size), label

    images = tf.data.Dataset.counter(start_step * batch_size).map(make, num_parallel_calls=_PARALLEL_CALLS)
    return images.batch(batch_size, drop_remainder=True).prefetch(2)


def classification_eval_batches(
    data: ClassificationData, image_size: int, batch_size: int, *, failures: DecodeFailures | None = None
) -> tf.data.Dataset:
    """Builds one pass over the records in their order: the middle of each image. Batches as above."""
    read = _reader(data, failures)

    def make(index: tf.Tensor):
        image, label = read(index)
        return tf.ensure_shape(center_crop(image, (image_size, image_size)), [image_size, image_size, 3]), label

    images = tf.data.Dataset.range(len(data)).map(make, num_parallel_calls=_PARALLEL_CALLS)
    return images.batch(batch_size).prefetch(2)


def _reader(data: ClassificationData, failures: DecodeFailures | None):
    """A function from an index to the image, uint8 `[H, W, 3]`, and its one-hot label."""
    failures = failures if failures is not None else DecodeFailures()
    reader = ImageReader(data.records, replace=True, strict=False, failures=failures)

    def read_image(index: np.ndarray):
        picture = reader.read(int(index))
        return picture.content, picture.pixels, np.int64(data.records[picture.index].label)

    def read(index: tf.Tensor):
        content, pixels, label = tf.numpy_function(read_image, [index], [tf.string, tf.uint8, tf.int64])
        content.set_shape([])
        pixels.set_shape([None, None, 3])
        label.set_shape([])
        return decode(content, pixels), tf.one_hot(label, len(data.class_names))

    return read


def _vary(image: tf.Tensor, draws: tf.Tensor, size: int) -> tf.Tensor:
    whole = tf.constant([[[0.0, 0.0, 1.0, 1.0]]])
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        whole,
        seed=draws[0],
        min_object_covered=0.0,
        area_range=AREA,
        aspect_ratio_range=ASPECT,
        use_image_if_no_bounding_boxes=True,
    )
    image = _resize(tf.slice(image, begin, extent), size)
    image = tf.image.stateless_random_flip_left_right(image, draws[1])
    brightness, contrast, saturation = (
        tf.random.stateless_uniform([], draw, 1 - JITTER, 1 + JITTER) for draw in tf.unstack(draws[2:])
    )
    image = image * brightness
    mean = tf.reduce_mean(tf.image.rgb_to_grayscale(image))
    image = mean + (image - mean) * contrast
    gray = tf.image.rgb_to_grayscale(image)
    return tf.clip_by_value(gray + (image - gray) * saturation, 0.0, 255.0)


def _resize(image: tf.Tensor, size: int) -> tf.Tensor:
    return tf.ensure_shape(tf.image.resize(image, (size, size), antialias=True), [size, size, 3])
