"""Batches of images of one class each; a training batch is a function of (seed, step), so a run can resume anywhere."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_lightdet.data.classification.loading import ClassificationData
from keras_lightdet.data.image_reader import ENCODED_SPEC, Encoded, ImageReader, decode
from keras_lightdet.data.issues import DecodeFailures
from keras_lightdet.data.pipeline import from_numpy, parallel_map, shuffled_indices
from keras_lightdet.images import center_crop

CROP_AREA, CROP_ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)  # of the image (Szegedy et al. 2015, section 6)
JITTER = 0.4  # largest relative change of brightness, contrast and saturation


def classification_train_batches(
    data: ClassificationData,
    image_size: int,
    batch_size: int,
    *,
    seed: int,
    start_step: int = 0,
    failures: DecodeFailures | None = None,
) -> tf.data.Dataset:
    """Builds an endless stream of shuffled batches with random crops, flips and changes of color.

    A file that cannot be decoded is replaced by the next image. See `detection_train_batches` for the other arguments.

    Args:
        data: The training split.
        image_size: Side S of the network input in pixels.
        batch_size: Images per batch.

    Returns:
        Batches `(images, labels)`: float32 `[B, S, S, 3]` in 0..255, and one-hot float32 `[B, num_classes]`.
    """
    read = _reader(data, failures)

    def make(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        index = shuffled_indices(position[None], len(data), seed)[0]
        image, label = read(index)
        seeds = tf.random.split(tf.stack([tf.constant(seed, tf.int64), position]), 5)
        return _augment(image, seeds, image_size), label

    images = parallel_map(tf.data.Dataset.counter(start_step * batch_size), make)
    return images.batch(batch_size, drop_remainder=True).prefetch(2)


def classification_eval_batches(
    data: ClassificationData, image_size: int, batch_size: int, *, failures: DecodeFailures | None = None
) -> tf.data.Dataset:
    """Builds one pass over the records in their order, with the center crop of each image.

    The arguments and the batches are those of `classification_train_batches`, but the last batch may be smaller.
    """
    read = _reader(data, failures)

    def make(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image, label = read(index)
        return tf.ensure_shape(center_crop(image, (image_size, image_size)), [image_size, image_size, 3]), label

    return parallel_map(tf.data.Dataset.range(len(data)), make).batch(batch_size).prefetch(2)


def _reader(
    data: ClassificationData, failures: DecodeFailures | None
) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Returns a function from an index to the image, uint8 `[H, W, 3]`, and its one-hot label."""
    reader = ImageReader([record.path for record in data.records], failures)
    spec = ENCODED_SPEC, tf.TensorSpec([], tf.int64)

    def read_file(index: np.ndarray) -> tuple[Encoded, np.int64]:
        image = reader.read(int(index))
        return image.encoded, np.int64(data.records[image.source].label)

    def read(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        encoded, label = from_numpy(read_file, [index], spec)
        return decode(*encoded), tf.one_hot(label, len(data.class_names))

    return read


def _augment(image: tf.Tensor, seeds: tf.Tensor, size: int) -> tf.Tensor:
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed=seeds[0],
        min_object_covered=0.0,
        area_range=CROP_AREA,
        aspect_ratio_range=CROP_ASPECT,
        use_image_if_no_bounding_boxes=True,
    )
    image = tf.image.resize(tf.slice(image, begin, extent), (size, size), antialias=True)
    image = tf.ensure_shape(image, [size, size, 3])
    image = tf.image.stateless_random_flip_left_right(image, seeds[1])
    brightness, contrast, saturation = (
        tf.random.stateless_uniform([], seed, 1 - JITTER, 1 + JITTER) for seed in tf.unstack(seeds[2:])
    )
    image = image * brightness
    mean = tf.reduce_mean(tf.image.rgb_to_grayscale(image))
    image = mean + (image - mean) * contrast
    gray = tf.image.rgb_to_grayscale(image)
    return tf.clip_by_value(gray + (image - gray) * saturation, 0.0, 255.0)
