"""Batches of images and boxes; a training batch is a function of (seed, step), so a run can resume at any step."""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_lightdet.data.augmentation.pixels import make_images
from keras_lightdet.data.augmentation.plan import GroupBoxes, Plan, pad_boxes, plan_images, plan_spec
from keras_lightdet.data.augmentation.spec import AugmentSpec
from keras_lightdet.data.augmentation.windows import MOSAIC_TILES
from keras_lightdet.data.detection.records import DetectionData
from keras_lightdet.data.image_reader import ENCODED_SPEC, Encoded, ImageReader, decode
from keras_lightdet.data.issues import DecodeFailures
from keras_lightdet.data.pipeline import from_numpy, parallel_map, shuffled_indices, single_threaded_ops
from keras_lightdet.images import resample, stretch, to_uint8
from keras_lightdet.types import DetectionTargets, Size, Tensor

MAX_BOXES = 300
MULTI_SCALE_STEPS = 10
# Largest number of images that one call of Python reads and plans, and from which a mosaic takes its tiles.
MAX_GROUP = 2 * MOSAIC_TILES
_MULTI_SCALE_SALT = 1
_NO_AUGMENTATION = AugmentSpec(until_step=0, min_visible=0.0)


def steps_per_epoch(data: DetectionData, batch_size: int) -> int:
    """Returns the number of steps in which each image occurs at least once."""
    return -(-len(data) // batch_size)


def detection_train_batches(
    data: DetectionData,
    image_size: Size,
    batch_size: int,
    *,
    seed: int,
    augment: AugmentSpec | None,
    start_step: int = 0,
    multi_scale: Sequence[Size] = (),
    strict: bool = False,
    failures: DecodeFailures | None = None,
) -> tf.data.Dataset:
    """Builds an endless stream of shuffled, augmented batches. `train_batches` is a short name for it.

    Each pass over the records is a new permutation. The batch of step n depends only on the data, the arguments and n:
    `start_step=n` continues with exactly the batches that an uninterrupted stream has from step n on.

    Args:
        data: The training split.
        image_size: `(height, width)` of the network input; images are resized to it without keeping their aspect.
        batch_size: Images per batch.
        seed: Seed of the shuffle and the augmentation.
        augment: Settings of the augmentation; None applies none.
        start_step: Number of steps already done.
        multi_scale: Sizes `(height, width)`, one of which is drawn every `MULTI_SCALE_STEPS` steps; the batch is made
            at `image_size` and resized.
        strict: Whether to fail at a file that cannot be decoded (a `tf.errors` error with the `DataError` in its text),
            instead of logging it and taking the next record.
        failures: Counts the files that cannot be decoded.

    Returns:
        Batches `(images, targets)`: uint8 `[B, H, W, 3]` and `DetectionTargets` with `G` boxes and 4 sources per image.
    """
    group_size, max_boxes = _group_size(batch_size), _max_boxes(data)
    if augment is not None and augment.mosaic:
        max_boxes = min(MAX_BOXES, max_boxes * MOSAIC_TILES)
    spec = [ENCODED_SPEC] * group_size, plan_spec(group_size), _targets_spec(group_size, max_boxes)
    reader = ImageReader([record.path for record in data.records], failures, strict=strict)

    def read(positions: np.ndarray, indices: np.ndarray) -> tuple[list[Encoded], Plan, DetectionTargets]:
        images = [reader.read(int(index)) for index in indices]
        plan, targets = plan_images(
            np.random.default_rng([seed, positions[0]]),
            np.array([image.extent for image in images]),
            [data.records[image.source] for image in images],
            image_size,
            augment or _NO_AUGMENTATION,
            positions // batch_size,
            max_boxes,
        )
        targets["sources"] = np.array([image.source for image in images] + [-1], np.int32)[targets["sources"]]
        return [image.encoded for image in images], plan, targets

    def make(number: tf.Tensor) -> tuple[tf.Tensor, DetectionTargets]:
        positions = number * group_size + tf.range(group_size, dtype=tf.int64)
        indices = shuffled_indices(positions, len(data), seed)
        encoded, plan, targets = from_numpy(read, [positions, indices], spec)
        images: list[tf.Tensor] = []
        for image in encoded:
            with tf.control_dependencies(images[-1:]):  # one after the other, see `make_images`
                images.append(decode(*(tf.identity(value) for value in image)))
        return make_images(images, plan, image_size), targets

    first_group, skipped = divmod(start_step * batch_size, group_size)
    elements = parallel_map(tf.data.Dataset.counter(first_group), make)
    if batch_size % group_size:
        batches = elements.unbatch().skip(skipped).batch(batch_size, drop_remainder=True)
    else:  # `rebatch` would serve both cases, but fails under a distribution strategy of one device
        batches = elements.batch(batch_size // group_size, drop_remainder=True).map(_join_groups)
    if multi_scale:
        batches = tf.data.Dataset.zip(tf.data.Dataset.counter(start_step), batches)
        batches = parallel_map(batches, lambda step, batch: _resize_batch(step, batch[0], batch[1], seed, multi_scale))
    return single_threaded_ops(batches.prefetch(2))


def detection_eval_batches(
    data: DetectionData,
    image_size: Size,
    batch_size: int,
    *,
    strict: bool = False,
    failures: DecodeFailures | None = None,
) -> tf.data.Dataset:
    """Builds one pass over the records in their order. `eval_batches` is a short name for it.

    The arguments and the batches are those of `detection_train_batches`, but the last batch may be smaller. A file that
    cannot be decoded is logged and replaced by a gray image, so that results keep their position and its objects count
    as missed; with `strict` it is an error.
    """
    max_boxes = _max_boxes(data)
    extents = [(record.height, record.width) for record in data.records]
    paths = [record.path for record in data.records]
    reader = ImageReader(paths, failures, strict=strict, fallback_extents=extents)

    def read(index: np.ndarray) -> tuple[Encoded, DetectionTargets]:
        image, record = reader.read(int(index)), data.records[int(index)]
        scale = np.array(image_size, np.float32) / np.array(image.extent, np.float32)
        boxes = record.boxes * np.tile(scale[::-1], 2)
        group = GroupBoxes(boxes, record.labels, record.ignore, np.zeros([len(boxes)], np.int32))
        sources = np.array([[int(index)] + [-1] * (MOSAIC_TILES - 1)], np.int32)
        return image.encoded, {**pad_boxes(group, 1, max_boxes), "sources": sources}

    def make(index: tf.Tensor) -> tuple[tf.Tensor, DetectionTargets]:
        image, targets = from_numpy(read, [index], (ENCODED_SPEC, _targets_spec(1, max_boxes)))
        targets = tf.nest.map_structure(lambda values: values[0], targets)
        return to_uint8(stretch(decode(*image), image_size)), targets

    elements = parallel_map(tf.data.Dataset.range(len(data)), make)
    return single_threaded_ops(elements.batch(batch_size).prefetch(2))


train_batches = detection_train_batches
eval_batches = detection_eval_batches


def _group_size(batch_size: int) -> int:
    """Returns the largest group that divides a batch; `MAX_GROUP` where that is too small for a mosaic."""
    divisor = math.gcd(batch_size, MAX_GROUP)
    return divisor if divisor >= MOSAIC_TILES else MAX_GROUP


def _join_groups(*batch: Tensor) -> tuple[Tensor, ...]:
    """Reshapes `[groups, images, ...]` to `[groups * images, ...]`."""
    return tf.nest.map_structure(lambda x: tf.reshape(x, (x.shape[0] * x.shape[1], *x.shape[2:])), batch)


def _targets_spec(count: int, max_boxes: int) -> DetectionTargets:
    return {
        "boxes": tf.TensorSpec([count, max_boxes, 4], tf.float32),
        "labels": tf.TensorSpec([count, max_boxes], tf.int32),
        "ignore": tf.TensorSpec([count, max_boxes], tf.uint8),
        "sources": tf.TensorSpec([count, MOSAIC_TILES], tf.int32),
    }


def _resize_batch(
    step: tf.Tensor, images: tf.Tensor, targets: DetectionTargets, seed: int, sizes: Sequence[Size]
) -> tuple[tf.Tensor, DetectionTargets]:
    """Resizes a batch to the size drawn for its step."""
    draw = tf.random.fold_in(tf.constant([seed, _MULTI_SCALE_SALT], tf.int64), step // MULTI_SCALE_STEPS)
    size = tf.constant(sizes)[tf.random.stateless_uniform([], draw, maxval=len(sizes), dtype=tf.int32)]
    scale = tf.cast(size, tf.float32) / tf.cast(tf.shape(images)[1:3], tf.float32)
    return to_uint8(resample(images, size)), {**targets, "boxes": targets["boxes"] * tf.tile(scale[::-1], [2])}


def _max_boxes(data: DetectionData) -> int:
    return min(MAX_BOXES, max(1, *(len(record.boxes) for record in data.records)))
