"""ThunderNet on PASCAL VOC, or on your own VOC or COCO folder.

    python recipes/train_thundernet_voc.py --demo                                     # drawn scenes, minutes
    python recipes/train_thundernet_voc.py --data-dir D --variant snet49 --export     # your pictures
    python recipes/train_thundernet_voc.py                                            # VOC 07+12 -> 07 test

From scratch it is trained as RSANet is: Adam, a warm-up of one epoch to 1e-3, a cosine down to 1e-6. The paper starts
from ImageNet's weights, by SGD: batch 64, 0.01 falling tenfold at a half and three quarters of 62,500 steps, at 240,
320 and 480 pixels in turn (Qin et al. 2019); that is what `--weights` gets, over as many epochs as are asked for. Files
and flags are those of train_rsanet_voc.py.
"""

import keras
from detector_run import DetectorRun, parse_args
from train_rsanet_voc import fetch

from keras_lightdet import ThunderNet
from keras_lightdet.training import WarmupDrops, ema_momentum

VARIANTS = ("snet146", "snet49", "snet535")
SCALES = (0.75, 1.0, 1.5)  # 240, 320 and 480 pixels
BATCH_SIZE, RATE, WARMUP_STEPS = 64, 0.01, 500
MOMENTUM, DECAY = 0.9, 1e-4


def main(args) -> None:
    """Trains, scores, draws and exports."""
    run = DetectorRun(args, fetch=fetch, metric="voc07", scales=SCALES if args.weights else ())
    model = ThunderNet(class_names=run.class_names, input_shape=run.input_shape, variant=args.variant)
    run.start_from(model)
    average = {"use_ema": True, "ema_momentum": ema_momentum(run.total_steps)}
    model.compile(optimizer(run, average))
    run.fit(model)
    run.finish(model)


def optimizer(run: DetectorRun, average: dict) -> keras.optimizers.Optimizer:
    """Returns the paper's optimizer for a start from weights, Adam for one from noise."""
    if not run.args.weights:
        return keras.optimizers.Adam(run.warmup_cosine(1e-3, final=1e-6), global_clipnorm=10.0, **average)
    steps = run.total_steps
    rate = WarmupDrops(
        RATE * run.args.batch_size / BATCH_SIZE, (steps // 2, 3 * steps // 4), min(WARMUP_STEPS, steps // 10)
    )
    # Keras takes the decay off the weights, the paper put it into the gradients, where momentum sums it up.
    decay = DECAY / (1 - MOMENTUM)
    return keras.optimizers.SGD(rate, momentum=MOMENTUM, weight_decay=decay, global_clipnorm=10.0, **average)


if __name__ == "__main__":
    main(parse_args(__doc__, name="thundernet_voc", epochs=240, input_size=320, batch_size=64, variants=VARIANTS))
