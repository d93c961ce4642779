"""Latency per multiply-add of BiSeNet-X39 at 640x360 beside MobileNetV2 at 224, float32 files, turn by turn.

    python tests/benchmarks/segmenter_speed.py [--rounds 50] [--threads 1] [--size 360 640]

Random weights; the segmenter gives logits at its own stride, or (second row) masks with softmax at the input's size.
"""

import argparse
import tempfile
from pathlib import Path

import keras

import keras_lightdet
from keras_lightdet.analysis import cost
from keras_lightdet.deploy.benchmark import measure_latency
from keras_lightdet.deploy.export_segmentation import MAIN, MASKS
from keras_lightdet.deploy.tflite_convert import convert_network
from keras_lightdet.layers import resize_maps

SIDE = 224


def main(args: argparse.Namespace) -> None:
    """Prints medians, multiply-adds, and both divided, with the ratio to MobileNetV2's."""
    mobile = keras.applications.MobileNetV2((SIDE, SIDE, 3), weights=None)
    size = tuple(args.size)
    segmenter = keras_lightdet.BiSeNet(input_shape=(*size, 3))

    def masks(given):
        return {MASKS: keras.ops.softmax(resize_maps(segmenter(given["images"])[MAIN], size))}

    nets = {
        "mobilenet_v2": (lambda given: {"scores": mobile(given["images"])}, (SIDE, SIDE), cost(mobile).macs),
        "bisenet_logits": (lambda given: segmenter(given["images"]), size, cost(segmenter).macs),
        "bisenet_masks": (masks, size, cost(segmenter).macs),
    }
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{name}.tflite" for name in nets]
        for path, (network, sides, _) in zip(paths, nets.values(), strict=True):
            path.write_bytes(convert_network(network, {"images": (1, *sides, 3)}))
        found = measure_latency(paths, threads=[args.threads], rounds=args.rounds)
    base = cost(mobile).macs
    print(f"{'net':16}{'ms':>10}{'M MACs':>10}{'ms / G':>10}{'ratio':>8}")
    for (name, (_, _, macs)), one in zip(nets.items(), found, strict=True):
        ratio = one.ratio * base / macs  # of the rounds' own ratios: what else runs slows both files of a round
        print(f"{name:16}{one.median:10.2f}{macs / 1e6:10.1f}{1e9 * one.median / macs:10.2f}{ratio:8.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", type=int, nargs=2, default=(360, 640), metavar=("H", "W"))
    main(parser.parse_args())
