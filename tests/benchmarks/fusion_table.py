"""Parameters, multiply-adds and .tflite latency of every fusion of the family, in one table.

    python tests/benchmarks/fusion_table.py [--variant d0] [--cells 3] [--rounds 20] [--threads 1]

Each is the feature network of an EfficientDet alone, from three maps of the backbone to the pyramid. Files take turns,
round by round, so trust the ratios more than the times. It asserts nothing: times belong to the machine.
"""

import argparse
import tempfile
from pathlib import Path

import keras

from keras_lightdet.analysis import cost
from keras_lightdet.backbones import EfficientNet
from keras_lightdet.backbones.efficientnet import NORM
from keras_lightdet.deploy.benchmark import measure_latency
from keras_lightdet.deploy.tflite_convert import convert_network
from keras_lightdet.layers import FUSIONS, fuse
from keras_lightdet.models.efficientdet import VARIANTS

LEVELS = ("P3", "P4", "P5", "P6", "P7")


def build(name: str, maps: dict[str, tuple], width: int, cells: int) -> keras.Model:
    """Returns the feature network over maps of these shapes without the batch."""
    inputs = {level: keras.Input(shape, name=level) for level, shape in maps.items()}
    fusion = FUSIONS[name]
    pyramid = fuse(
        inputs,
        fusion.graph(len(LEVELS)),
        levels=LEVELS,
        width=width,
        repeats=cells if fusion.repeated else 1,
        method=fusion.method,
        activation="silu",
        norm=NORM,
        name=name,
    )
    return keras.Model(inputs, pyramid)


def main(args) -> None:
    """Builds, converts, measures and prints."""
    setting = VARIANTS[args.variant]
    backbone = EfficientNet(setting.input_shape, variant=setting.backbone)
    maps = {level: tuple(x.shape[1:]) for level, x in backbone.output.items()}
    shapes = {level: (1, *shape) for level, shape in maps.items()}
    costs, paths = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name in FUSIONS:
            model = build(name, maps, setting.width, args.cells or setting.cells)
            costs.append(cost(model))
            paths.append(Path(folder) / f"{name}.tflite")
            paths[-1].write_bytes(convert_network(model, shapes))
        latencies = measure_latency(paths, threads=(args.threads,), rounds=args.rounds)
    print(f"{'fusion':22}{'parameters':>12}{'MACs (M)':>10}{'median ms':>11}{'ratio':>7}")
    for name, found, latency in zip(FUSIONS, costs, latencies, strict=True):
        row = f"{name:22}{found.trainable_parameters:12,d}{found.macs / 1e6:10.1f}"
        print(f"{row}{latency.median:11.2f}{latency.ratio:7.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", choices=VARIANTS, default="d0", help="gives maps and channels")
    parser.add_argument("--cells", type=int, help="default: the variant's")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    main(parser.parse_args())
