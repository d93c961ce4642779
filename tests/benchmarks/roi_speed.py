"""Milliseconds of a second stage's parts in a .tflite on one thread, and of its pooling in training.

    python tests/benchmarks/roi_speed.py [--rounds 60]

Position-sensitive RoI align is measured beside two other forms of the same answer: hat-function matrices over rows and
columns (mean only), and one look-up for each corner of each sample. It asserts nothing: times belong to the machine.
"""

import argparse
import time

import numpy as np
import tensorflow as tf

from keras_lightdet.boxes import ProposalSpec, PyramidAnchors, propose
from keras_lightdet.deploy import verify
from keras_lightdet.deploy.runtime import TFLiteGraph
from keras_lightdet.deploy.tflite_convert import convert_function
from keras_lightdet.layers import multilevel_roi_align, ps_roi_align, roi_align

POOL, OUTPUTS, SAMPLES = 7, 5, 2


def some_rois(count: int, size: tuple[int, int]) -> np.ndarray:
    """Regions inside an image of `(height, width)`."""
    random = np.random.default_rng(0)
    limit = np.float32([size[1], size[0]])
    low = random.uniform(0, 0.9, (1, count, 2)) * limit
    high = np.minimum(low + random.uniform(0.02, 0.6, low.shape) * limit, limit)
    return np.concatenate([low, high], -1).astype("float32")


def by_matrices(features, rois, stride: float):
    """Mean, clamped: rows by a matrix product for each bin row, columns by a weighted sum."""
    _, height, width, channels = features.shape
    count, outputs = rois.shape[1], channels // POOL**2

    def hats(low, high, size):
        places = (np.arange(POOL * SAMPLES, dtype="float32") + 0.5) / (POOL * SAMPLES)
        points = tf.clip_by_value(low[:, None] + (high - low)[:, None] * places, 0.0, size - 1.0)
        weights = tf.nn.relu(1.0 - tf.abs(points[..., None] - np.arange(size, dtype="float32")))
        return tf.reshape(tf.reduce_mean(tf.reshape(weights, (count * POOL, SAMPLES, size)), 1), (count, POOL, size))

    x_min, y_min, x_max, y_max = tf.unstack(tf.squeeze(rois, 0) / stride, axis=-1)
    maps = tf.transpose(tf.reshape(features, (height, width, outputs, POOL, POOL)), (3, 0, 4, 2, 1))
    rows = tf.matmul(tf.transpose(hats(y_min, y_max, height), (1, 0, 2)), tf.reshape(maps, (POOL, height, -1)))
    rows = tf.reshape(rows, (POOL, count, POOL, outputs, width))
    pooled = tf.reduce_sum(rows * hats(x_min, x_max, width)[None, :, :, None], -1)
    return tf.transpose(pooled, (1, 0, 2, 3))[None]


def by_corners(features, rois, stride: float):
    """Mean, clamped: four look-ups a sample, in a table with a row for each bin and pixel."""
    _, height, width, channels = features.shape
    maps = tf.transpose(tf.reshape(features, (height * width, channels // POOL**2, POOL**2)), (2, 0, 1))
    table = tf.reshape(maps, (-1, channels // POOL**2))
    low, high = rois[0, :, None, :2] / stride, rois[0, :, None, 2:] / stride
    places = (np.arange(POOL * SAMPLES, dtype="float32")[:, None] + 0.5) / (POOL * SAMPLES)
    points = tf.clip_by_value(low + (high - low) * places, 0.0, np.float32([width - 1, height - 1]))
    first = tf.cast(points, tf.int32)
    share = points - tf.cast(first, tf.float32)
    second = tf.minimum(first + 1, np.int32([width - 1, height - 1]))
    bins = np.repeat(np.arange(POOL, dtype="int32"), SAMPLES) * (height * width)
    total = 0.0
    for row, row_share in ((first[..., 1], 1 - share[..., 1]), (second[..., 1], share[..., 1])):
        for column, column_share in ((first[..., 0], 1 - share[..., 0]), (second[..., 0], share[..., 0])):
            index = (row * width + bins * POOL)[:, :, None] + (column + bins)[:, None, :]
            total = total + tf.gather(table, index) * (row_share[:, :, None] * column_share[:, None, :])[..., None]
    shape = (rois.shape[1] * POOL, SAMPLES, POOL, SAMPLES * total.shape[-1])
    total = tf.reshape(tf.reduce_mean(tf.reshape(total, shape), 1), (-1, POOL, SAMPLES, channels // POOL**2))
    return tf.reshape(tf.reduce_mean(total, 2), (1, -1, POOL, POOL, channels // POOL**2))


def report(forms: dict, inputs: dict, rounds: int) -> None:
    """Converts each form, and lets the files take turns."""
    graphs, answers = {}, {}
    for name, function in forms.items():
        content = convert_function(lambda tensors, function=function: function(**tensors), shapes_of(inputs))
        graphs[name] = TFLiteGraph(content)
        answers[name] = graphs[name].run(inputs)
        partitions = verify.count_partitions(content)
        print(f"  {name:30} {len(content):7} bytes, {partitions} partitions", sorted(verify.check_allowed_ops(content)))
    times = {name: [] for name in forms}
    for _ in range(rounds):
        for name, graph in graphs.items():
            graph.run(inputs)
            start = time.perf_counter()
            graph.interpreter.invoke()
            times[name].append(time.perf_counter() - start)
    for name, found in times.items():
        print(f"  {name:30} median {np.median(found) * 1e3:7.2f} ms, p10 {np.quantile(found, 0.1) * 1e3:7.2f} ms")
    means = [answer["pooled"] for name, answer in answers.items() if name.startswith("mean")]
    if len(means) > 1:
        print(f"  largest difference between the means {max(np.abs(each - means[0]).max() for each in means):.1e}")


def shapes_of(inputs: dict) -> dict:
    """Shape of each array."""
    return {name: value.shape for name, value in inputs.items()}


def position_sensitive(count: int, height: int, width: int, stride: int, outputs: int, rounds: int) -> None:
    """The forms of position-sensitive RoI align."""
    print(f"Position-sensitive RoI align, {count} regions, {height} x {width} x {outputs * POOL**2}:")
    features = np.random.default_rng(1).normal(size=(1, height, width, outputs * POOL**2)).astype("float32")
    inputs = {"features": features, "rois": some_rois(count, (height * stride, width * stride))}
    own = {
        f"{reduce}, pairs, {border}": lambda features, rois, reduce=reduce, border=border: {
            "pooled": ps_roi_align(features, rois, POOL, stride, samples=SAMPLES, reduce=reduce, border=border)
        }
        for reduce, border in (("mean", "clamp"), ("max", "clamp"), ("max", "zero"))
    }
    others = {
        "mean, matrices": lambda features, rois: {"pooled": by_matrices(features, rois, stride)},
        "mean, one look-up a corner": lambda features, rois: {"pooled": by_corners(features, rois, stride)},
    }
    report({**own, **others}, inputs, rounds)


def plain(rounds: int) -> None:
    """RoI align of a small pyramid, and of one map."""
    print("RoI align 7 x 7, 100 regions, 256 channels:")
    random = np.random.default_rng(1)
    inputs = {f"P{n}": random.normal(size=(1, 320 >> n, 320 >> n, 256)).astype("float32") for n in (2, 3, 4, 5)}
    inputs["rois"] = some_rois(100, (320, 320))
    forms = {
        "P4 alone": lambda rois, **levels: {"pooled": roi_align(levels["P4"], rois, POOL, 16)},
        "P2 to P5": lambda rois, **levels: {"pooled": multilevel_roi_align(levels, rois, POOL)},
    }
    report(forms, inputs, rounds)


def proposals(rounds: int) -> None:
    """Proposals of ThunderNet's 10 000 anchors."""
    print("Proposals, 10 000 anchors:")
    anchors = PyramidAnchors((16,), ((32, 64, 128, 256, 512),), (0.5, 0.75, 1.0, 4 / 3, 2.0)).generate((320, 320))
    random = np.random.default_rng(1)
    inputs = {
        "objectness": random.normal(0, 2, (1, 10_000)).astype("float32"),
        "rpn_deltas": random.normal(0, 0.2, (1, 10_000, 4)).astype("float32"),
    }

    def form(top_k):
        def function(objectness, rpn_deltas):
            found = propose(objectness, rpn_deltas, anchors, (320, 320), ProposalSpec(top_k, 200))
            return {"boxes": found["boxes"], "scores": found["scores"]}

        return function

    report({f"top {top_k}, 200 stay": form(top_k) for top_k in (500, 1000, 2000)}, inputs, rounds)


def training(rounds: int) -> None:
    """A step of position-sensitive RoI align with its gradient, with and without XLA."""
    features = tf.random.normal((4, 20, 20, 245))
    rois = tf.constant(np.repeat(some_rois(512, (320, 320)), 4, 0))

    def step(features):
        with tf.GradientTape() as tape:
            tape.watch(features)
            loss = tf.reduce_sum(ps_roi_align(features, rois, POOL, 16, reduce="max") ** 2)
        return tape.gradient(loss, features)

    for compiled in (False, True):
        function, times = tf.function(step, jit_compile=compiled), []
        function(features)
        for _ in range(max(rounds // 4, 3)):
            start = time.perf_counter()
            function(features).numpy()
            times.append(time.perf_counter() - start)
        print(f"Training, batch of 4, 512 regions, {'XLA' if compiled else 'graph'}: {np.median(times) * 1e3:.1f} ms")


def main() -> None:
    """Prints all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    args = parser.parse_args()
    position_sensitive(100, 20, 20, 16, OUTPUTS, args.rounds)
    position_sensitive(200, 20, 20, 16, OUTPUTS, args.rounds)
    position_sensitive(1000, 25, 38, 32, 10, args.rounds)
    plain(args.rounds)
    proposals(args.rounds)
    training(args.rounds)


if __name__ == "__main__":
    main()
