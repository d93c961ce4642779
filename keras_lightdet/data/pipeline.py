"""The parts of the tf.data pipelines that all tasks share: the shuffle, NumPy functions and the number of threads."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

_SHUFFLE_SALT = 0x9E3779B9  # the fractional bits of the golden ratio
# More calls than cores: some wait for a file, for Python's lock, or for an earlier element. Each holds its images.
_PARALLEL_CALLS = (os.cpu_count() or 1) + 2


def shuffled_indices(positions: tf.Tensor, count: int, seed: int) -> tf.Tensor:
    """Maps positions in an endless stream, int64 `[n]`, to records 0..count-1; each pass is a new permutation."""
    passes = tf.cast(positions // count, tf.uint32)
    # Without the salt, seed 0 in pass 0 would be a key of zeros, which hardly shuffles.
    first, last = (tf.fill(tf.shape(passes), tf.constant(key, tf.uint32)) for key in (seed, _SHUFFLE_SALT))
    seeds = tf.stack([first, passes, last], -1)
    # tf.random.experimental.index_shuffle pads a seed per index along the wrong axis; the op itself takes one.
    shuffled = tf.raw_ops.RandomIndexShuffle(
        index=tf.cast(positions % count, tf.uint64), seed=seeds, max_index=tf.constant(count - 1, tf.uint64), rounds=4
    )
    return tf.cast(shuffled, tf.int64)


def parallel_map(dataset: tf.data.Dataset, function: Callable[..., Any]) -> tf.data.Dataset:
    """Applies a function without Python control flow over tensors to each element, in order."""
    return dataset.map(tf.autograph.experimental.do_not_convert(function), num_parallel_calls=_PARALLEL_CALLS)


def from_numpy(function: Callable[..., Any], arguments: Sequence[tf.Tensor], spec: Any) -> Any:
    """Calls a NumPy function from a graph; returns tensors in the structure, types and shapes of `spec`."""
    specs = tf.nest.flatten(spec)

    def call(*values: Any) -> list[Any]:
        return tf.nest.flatten(function(*values))

    tensors = tf.numpy_function(call, arguments, [element.dtype for element in specs])
    for tensor, element in zip(tensors, specs, strict=True):
        tensor.set_shape(element.shape)
    return tf.nest.pack_sequence_as(spec, tensors)


def single_threaded_ops(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Keeps each op on one thread: elements are made in parallel, so more threads would only compete for cores."""
    options = tf.data.Options()
    options.deterministic = True
    options.threading.max_intra_op_parallelism = 1
    return batches.with_options(options)
