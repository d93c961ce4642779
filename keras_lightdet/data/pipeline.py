"""Batches for training and evaluation; a training batch is a function of (seed, step), so a run can resume at any."""

from collections.abc import Sequence

import tensorflow as tf

from keras_lightdet.data.augmentation import (
    WHOLE,
    AugmentSpec,
    change_colours,
    choose_window,
    flip_left_right,
    pad_boxes,
    place,
    place_mosaic,
)
from keras_lightdet.data.picture_reader import DecodeFailures, PictureReader, pick
from keras_lightdet.data.records import DetectionData
from keras_lightdet.images import resample, stretch, to_uint8

MAX_BOXES = 300
# Pictures of one mosaic, and so neighbours in the stream that are read together.
MOSAIC_PARTS = 4
MULTI_SCALE_STEPS = 10
_MULTI_SCALE_SALT = 1


def steps_per_epoch(data: DetectionData, batch_size: int) -> int:
    """Steps in which every picture is seen at least once."""
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
        image_size: `(height, width)` of the network input; pictures are stretched to it.
        batch_size: Pictures per batch.
        seed: Of the shuffle and the augmentation.
        augment: How pictures are varied; None leaves them as they are.
        start_step: Steps already done.
        multi_scale: `(height, width)`s to draw from instead, anew every `MULTI_SCALE_STEPS` steps; the batch is made at
            `image_size` and shrunk.
        strict: Fail at a file that cannot be decoded (as a `tf.errors` error with the `DataError` in its text), instead
            of naming it, counting it and taking the next record.
        failures: Takes the files that could not be decoded.

    Returns:
        Batches `(images, targets)`: uint8 `[B, H, W, 3]`, and boxes `[B, G, 4]` in their pixels, labels `[B, G]` (-1
        pads), ignore `[B, G]` (uint8, 1 or 0), sources `[B, 4]`: indices of the records that a picture is made of
        (-1 pads).
    """
    most = _most_boxes(data)
    max_boxes = min(MAX_BOXES, most * MOSAIC_PARTS) if augment is not None and augment.mosaic else most
    failures = failures if failures is not None else DecodeFailures()
    reader = PictureReader(data.records, most, replace=True, strict=strict, failures=failures)
    first_group, skipped = divmod(start_step * batch_size, MOSAIC_PARTS)

    def read_group(number: tf.Tensor):
        positions = number * MOSAIC_PARTS + tf.range(MOSAIC_PARTS, dtype=tf.int64)
        return positions, *reader.read(shuffled_indices(positions, len(data), seed), MOSAIC_PARTS)

    def each_place(positions, images, targets) -> tf.data.Dataset:
        return tf.data.Dataset.range(MOSAIC_PARTS).map(lambda place: (positions[place], place, images, targets))

    def make_picture(position, place, images, targets):
        if augment is None:
            return _plain(*pick(images, targets, place), image_size, max_boxes)
        return _augment(position, place, (images, targets), image_size, batch_size, seed, augment, max_boxes)

    groups = _map(tf.data.Dataset.counter(first_group), read_group)
    pictures = _map(groups.flat_map(each_place).skip(skipped), make_picture)
    batches = pictures.batch(batch_size, drop_remainder=True)
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

    A file that cannot be decoded is named, counted and stood in for by a grey picture, so that answers keep their place
    and its objects count as missed; under `strict` it is an error.

    Args:
        data: What to read.
        image_size: `(height, width)` of the network input; pictures are stretched to it.
        batch_size: Pictures per batch.
        strict: Fail at a file that cannot be decoded.
        failures: Takes the files that could not be decoded.

    Returns:
        Batches as of `train_batches`.
    """
    most = _most_boxes(data)
    failures = failures if failures is not None else DecodeFailures()
    reader = PictureReader(data.records, most, replace=False, strict=strict, failures=failures)

    def make_picture(index: tf.Tensor):
        images, targets = reader.read(index[None], 1)
        image, targets = pick(images, targets, 0)
        scale = tf.cast(tf.stack(image_size), tf.float32) / tf.cast(tf.shape(image)[:2], tf.float32)
        boxes = targets["boxes"] * tf.tile(scale[::-1], [2])
        return stretch(image, image_size), _with_sources({**targets, "boxes": boxes}, [targets["source"]])

    pictures = _map(tf.data.Dataset.range(len(data)), make_picture)
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
    seeds = tf.stack([tf.fill(tf.shape(passes), tf.constant(seed, tf.uint32)), passes, tf.zeros_like(passes)], -1)
    # tf.random.experimental.index_shuffle pads a seed per index along the wrong axis; the op itself takes one.
    shuffled = tf.raw_ops.RandomIndexShuffle(
        index=tf.cast(positions % count, tf.uint64), seed=seeds, max_index=tf.constant(count - 1, tf.uint64), rounds=4
    )
    return tf.cast(shuffled, tf.int64)


def _augment(
    position, place_in_group, group, image_size, batch_size: int, seed: int, spec: AugmentSpec, max_boxes: int
):
    """Makes the network's picture at a stream position out of the picture there and its neighbours."""
    seeds = tf.random.split(tf.random.fold_in(tf.constant([seed, 0], tf.int64), position), 3)
    draws = tf.random.stateless_uniform([2], seeds[0])
    step = position // batch_size
    active = _before(step, spec.until_step)

    def one():
        image, targets = pick(*group, place_in_group)
        window = tf.cond(active, lambda: choose_window(seeds[1], image, targets, spec), lambda: tf.constant(WHOLE))
        return finish(*place(image, targets, window, image_size, spec.min_visible), [targets["source"]])

    def four():
        neighbours = [pick(*group, (place_in_group + part) % MOSAIC_PARTS) for part in range(MOSAIC_PARTS)]
        made = place_mosaic(seeds[1], neighbours, image_size, spec)
        return finish(*made, [targets["source"] for _, targets in neighbours])

    def finish(image, targets, sources):
        image = tf.cond(active, lambda: change_colours(seeds[2], image, spec), lambda: to_uint8(image))
        return image, _with_sources(pad_boxes(targets, max_boxes), sources)

    mosaic = (draws[0] < spec.mosaic) & active & _before(step, spec.mosaic_until_step)
    image, targets = tf.cond(mosaic, four, one) if spec.mosaic else one()
    # The flip comes last, as bytes are quicker to mirror than floats.
    flip = (draws[1] < spec.flip) & active
    image, targets = tf.cond(flip, lambda: flip_left_right(image, targets), lambda: (image, targets))
    return tf.ensure_shape(image, [*image_size, 3]), targets


def _plain(image, targets, image_size, max_boxes: int):
    made, made_targets = place(image, targets, tf.constant(WHOLE), image_size, 0.0)
    made = tf.ensure_shape(to_uint8(made), [*image_size, 3])
    return made, _with_sources(pad_boxes(made_targets, max_boxes), [targets["source"]])


def _with_sources(targets, sources: list[tf.Tensor]):
    padding = [tf.constant(-1)] * (MOSAIC_PARTS - len(sources))
    kept = {key: targets[key] for key in ("boxes", "labels")}
    # No bool: Keras averages a first batch over the replicas of a distribution strategy.
    kept["ignore"] = tf.cast(targets["ignore"], tf.uint8)
    return {**kept, "sources": tf.stack([*sources, *padding])}


def _before(step: tf.Tensor, limit: int | None) -> tf.Tensor:
    return tf.constant(True) if limit is None else step < limit


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
    return dataset.map(tf.autograph.experimental.do_not_convert(function), num_parallel_calls=tf.data.AUTOTUNE)


def _with_options(batches: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = True
    # Pictures are made side by side; an op that splits itself as well only waits for cores that are busy.
    options.threading.max_intra_op_parallelism = 1
    return batches.with_options(options)
