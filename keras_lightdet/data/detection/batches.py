"""Batches for training and evaluation; a training batch is a function of (seed, step), so a run can resume at any."""

import math
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_lightdet.data.augmentation.pixels import make_images
from keras_lightdet.data.augmentation.plan import pad_boxes, plan_images, plan_spec
from keras_lightdet.data.augmentation.windows import MOSAIC_PARTS, AugmentSpec
from keras_lightdet.data.detection.records import DetectionData
from keras_lightdet.data.image_reader import DecodeFailures, EncodedImage, ImageReader, decode
from keras_lightdet.images import resample, stretch, to_uint8

MAX_BOXES = 300
MULTI_SCALE_STEPS = 10
# Most images that are read and planned in one call of Python, and of which a mosaic takes its parts.
MAX_GROUP = 2 * MOSAIC_PARTS
_MULTI_SCALE_SALT = 1
_SHUFFLE_SALT = 0x9E3779B9  # the golden ratio's bits
# Some more than there are cores, for those that wait for a file, for Python, or for an earlier one to be done; each
# holds a group's images.
_PARALLEL_CALLS = (os.cpu_count() or 1) + 2
_IMAGE_SPEC = (tf.TensorSpec([], tf.string), tf.TensorSpec([None, None, 3], tf.uint8))


def steps_per_epoch(data: DetectionData, batch_size: int) -> int:
    """Steps in which every image is seen at least once."""
    return -(-len(data) // batch_size)


def train_batches(
    data: DetectionData,
    image_size: tuple[int, int],
    batch_size: int,
    *,
    seed: int,
    augment: AugmentSpec | None,
    start_step: int = 0,
    multi_scale: Sequence[tuple[int, int]] = (),
    strict: bool = False,
    failures: DecodeFailures | None = None,
) -> tf.data.Dataset:
    """Builds an endless stream of shuffled, augmented batches.

    The shuffle is a new permutation of all records in each pass. The batch of step n depends only on the data, the
    arguments and n: `start_step=n` gives the very batches from n on that the unbroken stream has.

    Args:
        data: What to draw from.
        image_size: `(height, width)` of the network input; images are stretched to it.
        batch_size: Images per batch.
        seed: Of the shuffle and the augmentation.
        augment: How images are varied; None leaves them as they are.
        start_step: Steps already done.
        multi_scale: `(height, width)`s to draw from instead, anew every `MULTI_SCALE_STEPS` steps; the batch is made at
            `image_size` and shrunk.
        strict: Fail at a file that cannot be decoded (as a `tf.errors` error with the `DataError` in its text), instead
            of naming it, counting it and taking the next record.
        failures: Takes the files that could not be decoded.

    Returns:
        Batches `(images, targets)`: uint8 `[B, H, W, 3]`, and boxes `[B, G, 4]` in their pixels, labels `[B, G]` (-1
        pads), ignore `[B, G]` (uint8, 1 or 0), sources `[B, 4]`: indices of the records that an image is made of
        (-1 pads).
    """
    most = _most_boxes(data)
    max_boxes = min(MAX_BOXES, most * MOSAIC_PARTS) if augment is not None and augment.mosaic else most
    spec = augment if augment is not None else AugmentSpec(until_step=0, min_visible=0.0)
    failures = failures if failures is not None else DecodeFailures()
    reader = ImageReader(data.records, replace=True, strict=strict, failures=failures)
    group_size = _group_size(batch_size)
    first_group, skipped = divmod(start_step * batch_size, group_size)

    def read_group(positions: np.ndarray, indices: np.ndarray):
        pictures = [reader.read(int(index)) for index in indices]
        plan, targets, shown = plan_images(
            np.random.default_rng([seed, positions[0]]),
            np.array([image.extent for image in pictures]),
            [data.records[image.index] for image in pictures],
            image_size,
            spec,
            positions // batch_size,
            max_boxes,
        )
        sources = np.int32([image.index for image in pictures] + [-1])[shown]
        return [_contents(image) for image in pictures], plan, {**targets, "sources": sources}

    def make_group(number: tf.Tensor):
        positions = number * group_size + tf.range(group_size, dtype=tf.int64)
        spec = [_IMAGE_SPEC] * group_size, plan_spec(group_size), _targets_spec(group_size, max_boxes)
        pictures, plan, targets = _from_numpy(
            read_group, [positions, shuffled_indices(positions, len(data), seed)], spec
        )
        images = []
        for image in pictures:
            with tf.control_dependencies(images[-1:]):  # see `make_images`
                images.append(decode(*(tf.identity(part) for part in image)))
        return make_images(images, plan, image_size), targets

    groups = _map(tf.data.Dataset.counter(first_group), make_group)
    if batch_size % group_size:
        batches = groups.unbatch().skip(skipped).batch(batch_size, drop_remainder=True)
    else:  # `rebatch` would do for both, but not under a distribution strategy of one device
        batches = groups.batch(batch_size // group_size, drop_remainder=True).map(_join_groups)
    if multi_scale:
        batches = tf.data.Dataset.zip(tf.data.Dataset.counter(start_step), batches)
        batches = _map(batches, lambda step, batch: _shrink(step, *batch, seed, multi_scale))
    return _with_options(batches.prefetch(2))


def eval_batches(
    data: DetectionData,
    image_size: tuple[int, int],
    batch_size: int,
    *,
    strict: bool = False,
    failures: DecodeFailures | None = None,
) -> tf.data.Dataset:
    """Builds one pass over the records in their order; the last batch may be smaller.

    A file that cannot be decoded is named, counted and stood in for by a gray image, so that answers keep their place
    and its objects count as missed; under `strict` it is an error.

    Args:
        data: What to read.
        image_size: `(height, width)` of the network input; images are stretched to it.
        batch_size: Images per batch.
        strict: Fail at a file that cannot be decoded.
        failures: Takes the files that could not be decoded.

    Returns:
        Batches as of `train_batches`.
    """
    most = _most_boxes(data)
    failures = failures if failures is not None else DecodeFailures()
    reader = ImageReader(data.records, replace=False, strict=strict, failures=failures)

    def read_image(index: np.ndarray):
        image, record = reader.read(int(index)), data.records[index]
        scale = np.float32(image_size) / np.float32(image.extent)
        truth = {
            "boxes": record.boxes * np.tile(scale[::-1], 2),
            "labels": record.labels,
            "ignore": record.ignore,
            "image": np.zeros([len(record.labels)], np.int32),
        }
        sources = np.int32([[index] + [-1] * (MOSAIC_PARTS - 1)])
        return _contents(image), {**pad_boxes(truth, 1, most), "sources": sources}

    def make_image(index: tf.Tensor):
        image, targets = _from_numpy(read_image, [index], (_IMAGE_SPEC, _targets_spec(1, most)))
        return to_uint8(stretch(decode(*image), image_size)), {name: values[0] for name, values in targets.items()}

    pictures = _map(tf.data.Dataset.range(len(data)), make_image)
    return _with_options(pictures.batch(batch_size).prefetch(2))


def shuffled_indices(positions: tf.Tensor, count: int, seed: int) -> tf.Tensor:
    """Maps positions in an endless stream to records, with each pass of `count` a permutation of its own.

    Args:
        positions: Int64 `[n]`, from 0.
        count: Number of records.
        seed: Of the shuffle.

    Returns:
        Int64 `[n]`, 0..count-1.
    """
    passes = tf.cast(positions // count, tf.uint32)
    # Seed 0 in pass 0 would be a key of zeros, which hardly shuffles.
    first, last = (tf.fill(tf.shape(passes), tf.constant(key, tf.uint32)) for key in (seed, _SHUFFLE_SALT))
    seeds = tf.stack([first, passes, last], -1)
    # tf.random.experimental.index_shuffle pads a seed per index along the wrong axis; the op itself takes one.
    shuffled = tf.raw_ops.RandomIndexShuffle(
        index=tf.cast(positions % count, tf.uint64), seed=seeds, max_index=tf.constant(count - 1, tf.uint64), rounds=4
    )
    return tf.cast(shuffled, tf.int64)


def _group_size(batch_size: int) -> int:
    """The most images that make up a batch without a rest; the most of all where a mosaic needs more than that."""
    shared = math.gcd(batch_size, MAX_GROUP)
    return shared if shared >= MOSAIC_PARTS else MAX_GROUP


def _join_groups(*batch):
    """`[groups, images, ...]` to `[groups * images, ...]`."""
    return tf.nest.map_structure(lambda x: tf.reshape(x, (x.shape[0] * x.shape[1], *x.shape[2:])), batch)


def _contents(image: EncodedImage) -> tuple[bytes, np.ndarray]:
    """What `_IMAGE_SPEC` says."""
    return image.content, image.pixels


def _targets_spec(count: int, max_boxes: int) -> dict[str, tf.TensorSpec]:
    return {
        "boxes": tf.TensorSpec([count, max_boxes, 4], tf.float32),
        "labels": tf.TensorSpec([count, max_boxes], tf.int32),
        "ignore": tf.TensorSpec([count, max_boxes], tf.uint8),
        "sources": tf.TensorSpec([count, MOSAIC_PARTS], tf.int32),
    }


def _from_numpy(function, arguments: list[tf.Tensor], spec):
    """Calls a NumPy function whose result has the structure, types and shapes of `spec`."""
    specs = tf.nest.flatten(spec)

    def call(*values):
        return tf.nest.flatten(function(*values))

    flat = tf.numpy_function(call, arguments, [one.dtype for one in specs])
    for values, one in zip(flat, specs, strict=True):
        values.set_shape(one.shape)
    return tf.nest.pack_sequence_as(spec, flat)


def _shrink(step, images, targets, seed: int, sizes: Sequence[tuple[int, int]]):
    """Resizes a batch to the size drawn for its step."""
    draw = tf.random.fold_in(tf.constant([seed, _MULTI_SCALE_SALT], tf.int64), step // MULTI_SCALE_STEPS)
    size = tf.constant(sizes)[tf.random.stateless_uniform([], draw, maxval=len(sizes), dtype=tf.int32)]
    scale = tf.cast(size, tf.float32) / tf.cast(tf.shape(images)[1:3], tf.float32)
    return to_uint8(resample(images, size)), {**targets, "boxes": targets["boxes"] * tf.tile(scale[::-1], [2])}


def _most_boxes(data: DetectionData) -> int:
    return min(MAX_BOXES, max(1, *(len(record.boxes) for record in data.records)))


def _map(dataset: tf.data.Dataset, function) -> tf.data.Dataset:
    # Autograph would read every function here for Python control flow over tensors; there is none.
    return dataset.map(tf.autograph.experimental.do_not_convert(function), num_parallel_calls=_PARALLEL_CALLS)


def _with_options(batches: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = True
    # Images are made side by side; an op that splits itself as well only waits for cores that are busy.
    options.threading.max_intra_op_parallelism = 1
    return batches.with_options(options)
