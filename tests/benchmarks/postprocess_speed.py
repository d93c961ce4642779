"""Milliseconds that decoding and suppression in the graph add to a file, with 3 % of the anchors active.

    python tests/benchmarks/postprocess_speed.py [--rounds 200]

For each size and number of classes the same RSANet is written with raw outputs and with each form of post-processing,
and the files take turns on one thread. Its objectness is scaled so that on the benchmark's image 3 % of the anchors
score and all others lie below the threshold. It asserts nothing: times belong to the machine.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

import keras_lightdet
from keras_lightdet.deploy import export_detection
from keras_lightdet.deploy.benchmark import measure_latency

ACTIVE = 0.03
SPREAD = 400.0  # of the logits: hardly an anchor lies between certain and ruled out
SEED = 0  # of the image, see `measure_latency`


def make_detector(side: int, classes: int):
    """Returns an untrained RSANet of which `ACTIVE` of the anchors see something in `image(side)`."""
    model = keras_lightdet.RSANet(classes, (side, side, 3))
    heads = [
        layer for layer in model.network.layers if layer.name in ("p3_objectness", "p4_objectness", "p5_objectness")
    ]
    logits = model(image(side)[None], training=False)["objectness"].numpy()
    factor = SPREAD / logits.std()
    threshold = np.quantile(logits, 1 - ACTIVE)
    for head in heads:
        kernel, bias = head.get_weights()
        head.set_weights([kernel * factor, (bias - threshold) * factor])
    scores = model.decode(model(image(side)[None], training=False))[1].numpy().max(-1)
    print(
        f"{side} pixels, {classes} classes: {np.mean(scores > model.select.score_threshold):.1%} of the anchors score"
    )
    return model


def image(side: int) -> np.ndarray:
    """The noise that `measure_latency` feeds."""
    return np.random.default_rng(SEED).integers(0, 255, (side, side, 3), np.uint8, endpoint=True)


def main() -> None:
    """Prints a line for each file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    args = parser.parse_args()
    for side, classes in ((320, 20), (416, 20), (320, 80)):
        model = make_detector(side, classes)
        with tempfile.TemporaryDirectory() as folder:
            paths = {form: Path(folder) / f"{form}.tflite" for form in ("none", "builtin", "custom_op")}
            for form, path in paths.items():
                export_detection(model, path, postprocess=form, calibration=[image(side)])
            found = measure_latency(list(paths.values()), rounds=args.rounds, seed=SEED)
            for form, one in zip(paths, found, strict=True):
                print(f"  {form:10} {one.median:7.2f} ms, {one.median - found[0].median:+.2f}")


if __name__ == "__main__":
    main()
