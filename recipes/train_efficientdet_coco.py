"""EfficientDet on COCO 2017, or on your own COCO or VOC folder.

    python recipes/train_efficientdet_coco.py --demo                                  # drawn scenes
    python recipes/train_efficientdet_coco.py --data-dir D --variant lite0 --export   # your images
    python recipes/train_efficientdet_coco.py --variant d0                            # COCO 2017 train -> val

The paper's recipe (Tan et al. 2020, section 5.1): SGD with momentum 0.9, a warm-up of one epoch to 0.08 for 64 images
a step and its share for others, a cosine to the end of 300 epochs, decay 4e-5 of the kernels, averaged weights, flips
and scales of 0.1 to 2. It starts from an ImageNet classifier, `--weights-backbone`. From noise, without that and
`--weights`, few images need larger steps than SGD's: then it is Adam, a warm-up to 1e-3 (the demo: 4e-3) and milder
augmentation, as in train_rsanet_voc.py, with smaller anchors where classes of small things need them. The input size is
the variant's where none is given. The paper has 34.6 AP for D0; nothing was trained on COCO here yet.
"""

import keras
from detector_run import DetectorRun, parse_args
from shared_run import report_errors
from train_rsanet_coco import fetch

from keras_lightdet import EfficientDet
from keras_lightdet.data import AugmentSpec
from keras_lightdet.detection import OneStageDetector
from keras_lightdet.models.efficientdet import VARIANTS
from keras_lightdet.training import ema_momentum

RATE, RATE_BATCH = 0.08, 64
MOMENTUM, DECAY, CLIP_NORM = 0.9, 4e-5, 10.0
SCRATCH_RATE, FINAL_RATE = 1e-3, 1e-6
DEMO_RATE = 4e-3  # of a start from noise, see train_spinenet_coco.py
NOT_DECAYED = ("bias", "gamma", "beta", "fusion/weight")
# Flips and scale jitter alone.
JITTER = AugmentSpec(zoom_out=0, crop=0, mosaic=0, color=0, jitter=1.0, jitter_scale=(0.1, 2.0), jitter_aspect=1.0)
DEFAULTS = {
    "input_size": None,
    "batch_size": 64,
    "variants": tuple(VARIANTS),
    "backbone": "EfficientNet",
    "demo_epochs": 20,
}


def main(args) -> None:
    """Trains with COCO's score."""
    run = start(args, metric="coco", fetch=fetch)
    train(run, build(run))


def start(args, **options) -> DetectorRun:
    """Reads the data; the input size is the variant's where none is given."""
    args.input_size = args.input_size or VARIANTS[args.variant].input_shape[0]
    return DetectorRun(args, augment=JITTER if is_fine_tuning(args) else None, **options)


def is_fine_tuning(args) -> bool:
    """Whether the paper's recipe is in its place: the start is a detector's weights or those of a classifier."""
    return bool(args.weights or args.weights_backbone)


def build(run: DetectorRun) -> OneStageDetector:
    """Returns the model, from `--weights` or `--weights-backbone` where they are given."""
    args = run.args
    usual = VARIANTS[args.variant].anchor_scale
    model = EfficientDet(
        class_names=run.class_names,
        input_shape=run.input_shape,
        variant=args.variant,
        anchor_scale=usual if args.weights_backbone else run.fit_anchor_scale(usual),
        weights_backbone=args.weights_backbone,
    )
    run.start_from(model)
    return model


def train(run: DetectorRun, model: OneStageDetector) -> None:
    """Trains, scores, draws and exports."""
    model.compile(optimizer(run))
    run.fit(model)
    run.finish(model)


def optimizer(run: DetectorRun) -> keras.optimizers.Optimizer:
    """Returns the paper's SGD for a trained start, Adam for one from noise; both keep an average of the weights."""
    average = {"use_ema": True, "ema_momentum": ema_momentum(run.total_steps), "global_clipnorm": CLIP_NORM}
    if not is_fine_tuning(run.args):
        return keras.optimizers.Adam(run.warmup_cosine(SCRATCH_RATE, FINAL_RATE, demo_peak=DEMO_RATE), **average)
    peak = RATE * run.args.batch_size / RATE_BATCH
    # Keras takes the decay off the weights, the paper puts it into the gradients, where momentum sums it up.
    decay = DECAY / (1 - MOMENTUM)
    sgd = keras.optimizers.SGD(
        run.warmup_cosine(peak, FINAL_RATE, demo_peak=peak), momentum=MOMENTUM, weight_decay=decay, **average
    )
    sgd.exclude_from_weight_decay(var_names=NOT_DECAYED)
    return sgd


if __name__ == "__main__":
    with report_errors():
        main(parse_args(__doc__, name="efficientdet_coco", epochs=300, **DEFAULTS))
