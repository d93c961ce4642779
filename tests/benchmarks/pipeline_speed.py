"""Measures the training pipeline against bare decoding and resizing of the same files.

    python tests/benchmarks/pipeline_speed.py [--data-dir D] [--split trainval] [--size 320] [--rounds 5]

Prints images per second of both, in turns within one process, the ratio of their medians (the aim is at least 0.6),
the same by processor time (for a machine that others use too), and the memory after each of several epochs (the aim is
a flat line). It asserts nothing: times belong to the machine.
"""

import argparse
import os
import time
from pathlib import Path
from statistics import median

import psutil
import tensorflow as tf

from keras_lightdet.data.augmentation.windows import AugmentSpec
from keras_lightdet.data.detection.batches import steps_per_epoch, train_batches
from keras_lightdet.data.detection.loading import load_data

BATCH_SIZE = 24
MEASURED_PASSES = 4  # one takes a quarter of a second, in which any other process shows


def bare_batches(paths: list[str], size: int) -> tf.data.Dataset:
    """Read, decode, resize, batch: the least that any pipeline does."""

    def load(path):
        return tf.image.resize(tf.io.decode_jpeg(tf.io.read_file(path), channels=3), (size, size))

    files = tf.data.Dataset.from_tensor_slices(paths).repeat()
    return files.map(load, tf.data.AUTOTUNE).batch(BATCH_SIZE).prefetch(2)


def rate(batches, steps: int) -> tuple[float, float]:
    """Images per second, and processor milliseconds per image, over `steps` batches of an iterator."""
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(steps):
        next(batches)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return steps * BATCH_SIZE / wall, 1000 * processor / (steps * BATCH_SIZE)


def compare(data, size: int, rounds: int, augment: AugmentSpec | None) -> dict[str, tuple[float, float]]:
    """Medians of `rate` for the training pipeline and for bare decoding, measured in turns."""
    steps = steps_per_epoch(data, BATCH_SIZE)
    paths = [record.path for record in data.records]
    measured = {"train": [], "bare": []}
    for _ in range(rounds):
        # One pipeline at a time, or the other's prefetching would take part in the measurement.
        for name in measured:
            if name == "train":
                batches = iter(train_batches(data, (size, size), BATCH_SIZE, seed=0, augment=augment))
            else:
                batches = iter(bare_batches(paths, size))
            rate(batches, steps)  # The first pass also checks every file.
            measured[name].append(rate(batches, MEASURED_PASSES * steps))
            del batches
    return {name: tuple(median(column) for column in zip(*rows, strict=True)) for name, rows in measured.items()}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).parents[3] / "shared" / "data" / "bccd"
    parser.add_argument("--data-dir", default=str(default))
    parser.add_argument("--split", default="trainval")
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5)
    args = parser.parse_args()
    data = load_data(args.data_dir, args.split)
    kinds = {"no augmentation": None, "default": AugmentSpec(), "all mosaic": AugmentSpec(mosaic=1.0)}
    for name, augment in kinds.items():
        found = compare(data, args.size, args.rounds, augment)
        (ours, our_time), (bare, bare_time) = found["train"], found["bare"]
        print(
            f"{name:16} {ours:5.0f} images/s, bare {bare:5.0f}: ratio {ours / bare:.2f}; "
            f"processor {our_time:.2f} ms an image, bare {bare_time:.2f}: ratio {bare_time / our_time:.2f}"
        )
    batches = iter(train_batches(data, (args.size, args.size), BATCH_SIZE, seed=0, augment=AugmentSpec()))
    process = psutil.Process(os.getpid())
    for epoch in range(1, args.epochs + 1):
        rate(batches, steps_per_epoch(data, BATCH_SIZE))
        print(f"epoch {epoch}: {process.memory_info().rss / 2**20:.0f} MiB resident")


if __name__ == "__main__":
    main()
