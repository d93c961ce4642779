"""RetinaNet on SpineNet, on COCO 2017 or on your own COCO or VOC folder.

    python recipes/train_spinenet_coco.py --demo                                           # drawn scenes
    python recipes/train_spinenet_coco.py --data-dir D --export                            # your images
    python recipes/train_spinenet_coco.py --variant spinenet49 --protocol c --batch-size 256   # COCO 2017
    python recipes/train_spinenet_coco.py --variant spinenet49 --graph found.json              # search_spinenet.py's

The paper trains from noise (Du et al. 2020, section 4.2): SGD with momentum 0.9, a warm-up of 5 epochs to 0.28 for 256
images a step and its share for others, a tenth of it in the last 30 epochs and a hundredth in the last 10, decay 4e-5
of the kernels, flips, and by protocol

    a  250 epochs, scales of 0.8 to 1.2, DropBlock
    b  350 epochs, scales of 0.5 to 2.0
    c  500 epochs, scales of 0.5 to 2.0, stochastic depth of 0.2, swish

The paper's mobile ones go by b over 600 epochs with decay 3e-5; they have no DropBlock here. Of DropBlock neither paper
nor code gives the size or the rate; here it drops a tenth, in squares of 7. The demo, batches of fewer than 64 images
and starts from `--weights` are trained as RSANet is, by Adam with a warm-up of one epoch to 1e-3 (the demo: 4e-3) and a
cosine, from noise with smaller anchors where classes of small things need them. On val2017 the authors have 42.8 AP for
SpineNet-49 by b and 44.3 by c; nothing was trained on COCO here yet. Images are stretched to the square of the input,
where the paper pads them; batch norms average over 0.97, which short runs need, in place of 0.99.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import keras
from detector_run import DetectorRun, parse_args
from shared_run import report_errors
from train_rsanet_coco import fetch

from keras_lightdet import RetinaNet
from keras_lightdet.data import AugmentSpec
from keras_lightdet.models.retinanet import VARIANTS
from keras_lightdet.training import ema_momentum, warmup_step

RATE, RATE_BATCH, SMALL_BATCH = 0.28, 256, 64
MOMENTUM, CLIP_NORM = 0.9, 10.0
WARMUP_EPOCHS, DROP_EPOCHS, WARMUP_START = 5, (30, 10), 0.0067 / 0.28
SCRATCH_RATE, FINAL_RATE = 1e-3, 1e-6
DEMO_RATE = 4e-3  # 20 epochs of the demo at 1e-3 came to an AP50 of 7.6, at this to 27.0
NOT_DECAYED = ("bias", "gamma", "beta")
DECAY = 4e-5
DEFAULTS = {
    "input_size": None,
    "batch_size": 16,
    "variants": ("mobile_spinenet49", *(name for name in VARIANTS if name != "mobile_spinenet49")),
    "demo_epochs": 20,
}


class Protocol(NamedTuple):
    """How long a SpineNet is trained, on which scales, and what keeps it from learning by heart."""

    epochs: int
    scales: tuple[float, float]
    options: dict  # of RetinaNet


PROTOCOLS = {
    "a": Protocol(250, (0.8, 1.2), {"drop_block": 0.1}),
    "b": Protocol(350, (0.5, 2.0), {}),
    "c": Protocol(500, (0.5, 2.0), {"drop_path_rate": 0.2, "activation": "swish"}),
}


def main(args) -> None:
    """Trains, scores, draws and exports."""
    protocol = PROTOCOLS[args.protocol]
    augment = AugmentSpec(
        zoom_out=0, crop=0, mosaic=0, color=0, jitter=1.0, jitter_scale=protocol.scales, jitter_aspect=1.0
    )
    run = DetectorRun(args, fetch=fetch, metric="coco", augment=augment if use_paper_schedule(args) else None)
    usual = VARIANTS[args.variant].anchor_scale
    model = RetinaNet(
        class_names=run.class_names,
        input_shape=run.input_shape,
        variant=args.variant,
        anchor_scale=usual if use_paper_schedule(args) else run.fit_anchor_scale(usual),
        blocks=json.loads(args.graph.read_text(encoding="utf-8"))["blocks"] if args.graph else None,
        **protocol.options,
    )
    run.start_from(model)
    model.compile(optimizer(run, protocol))
    run.fit(model)
    run.finish(model)


def use_paper_schedule(args) -> bool:
    """Whether the paper's schedule is in its place: a start from noise in large batches."""
    return not (args.demo or args.weights) and args.batch_size >= SMALL_BATCH


def optimizer(run: DetectorRun, protocol: Protocol) -> keras.optimizers.Optimizer:
    """Returns the paper's SGD, or Adam where that does not fit, which keeps an average of the weights."""
    args = run.args
    if not use_paper_schedule(args):
        average = {"use_ema": True, "ema_momentum": ema_momentum(run.total_steps)}
        rate = run.warmup_cosine(SCRATCH_RATE, FINAL_RATE, demo_peak=DEMO_RATE)
        return keras.optimizers.Adam(rate, global_clipnorm=CLIP_NORM, **average)
    # Shares of the published run, so that a shorter one has its warm-up and its falls as well.
    epochs = [share / protocol.epochs * run.total_steps for share in (WARMUP_EPOCHS, *DROP_EPOCHS)]
    warmup, *last = (round(steps) for steps in epochs)
    rate = warmup_step(
        RATE * args.batch_size / RATE_BATCH,
        [run.total_steps - steps for steps in last],
        warmup,
        warmup_start=WARMUP_START,
    )
    # Keras takes the decay off the weights, the paper puts it into the gradients, where momentum sums it up.
    decay = DECAY / (1 - MOMENTUM)
    sgd = keras.optimizers.SGD(rate, momentum=MOMENTUM, weight_decay=decay, global_clipnorm=CLIP_NORM)
    sgd.exclude_from_weight_decay(var_names=NOT_DECAYED)
    return sgd


def read_args(argv: Sequence[str] | None = None):
    """Reads the flags; the run's length hangs on the protocol, the input size on the variant."""
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--protocol", choices=sorted(PROTOCOLS), default="b")
    first.add_argument("--graph", type=Path)
    known, rest = first.parse_known_args(argv)
    epochs = PROTOCOLS[known.protocol].epochs
    args = parse_args(__doc__, name="spinenet_coco", epochs=epochs, argv=rest, **DEFAULTS)
    args.protocol, args.graph = known.protocol, known.graph
    args.input_size = args.input_size or VARIANTS[args.variant].input_shape[0]
    return args


if __name__ == "__main__":
    with report_errors():
        main(read_args())
