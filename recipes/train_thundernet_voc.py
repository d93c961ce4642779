"""ThunderNet (Qin et al. 2019) on PASCAL VOC, or on your own images with boxes: a VOC tree or a COCO folder.

    lightdet train thundernet_voc --demo                                              # synthetic scenes
    python recipes/train_thundernet_voc.py --data-dir D --variant snet49 --export     # your images, from scratch
    python recipes/train_thundernet_voc.py --weights-backbone snet146.weights.h5      # VOC 2007+2012, the paper's way

The paper starts from ImageNet weights (train_snet_imagenet.py): SGD, batch 64, 0.01 with drops to a tenth at a half and
three quarters of 62,500 steps, at 240, 320 and 480 pixels in turn. `--weights-backbone` and `--weights` train so, over
`--epochs`. From scratch it is Adam with RSANet's warm-up and cosine.

Duration: BCCD (292 images, --variant snet49 --input-size 480 --batch-size 8 --epochs 80) 50 minutes on two CPU cores
that other processes used too; demo and VOC not measured.
Score, VOC 2007 mAP: BCCD 79.9 %; VOC not measured. The paper: 70.1, 75.1 and 78.6 % for SNet49, 146 and 535.
"""

from collections.abc import Sequence
from functools import partial

from keras_lightdet import ThunderNet, runs
from keras_lightdet.data import AugmentSpec, train_batches
from keras_lightdet.evaluation import EvaluateDetector
from keras_lightdet.training import warmup_step

VARIANTS = ("snet146", "snet49", "snet535")
DEFAULTS = {"epochs": 240, "input_size": 320, "batch_size": 64}
DEMO = {"epochs": 50, "input_size": 192, "batch_size": 8}
# No mosaic: the smallest anchor has 32 pixels, and the mosaic's small objects would match none.
AUGMENT, SCRATCH_AUGMENT = AugmentSpec(mosaic=0.0), AugmentSpec(mosaic=0.0, zoom_out=0.0)
SCALES = (0.75, 1.0, 1.5)  # of the input: 240, 320 and 480 pixels
RATE, RATE_BATCH, DECAY, DROPS = 0.01, 64, 1e-4, (0.5, 0.75)  # the paper's; drops as shares of the run
WARMUP_STEPS, WARMUP_START = 500, 1 / 3  # those of Light-Head R-CNN's authors
SCRATCH_RATE = 1e-3  # 3e-3 left two thirds of the hidden units dead after 8 epochs of the demo, 7e-4 a fifth


@runs.report_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Trains, evaluates and exports."""
    settings = runs.start(runs.RunSettings, argv, __doc__, "thundernet_voc", DEFAULTS, DEMO, variants=VARIANTS)

    # Data
    train_data, test_data = runs.load_detection_splits(settings, runs.fetch_voc)
    steps_per_epoch, steps = settings.count_steps(len(train_data))
    augment = AUGMENT if settings.is_fine_tuning else SCRATCH_AUGMENT
    augment = runs.DEMO_AUGMENT if settings.demo else augment
    sizes = settings.scaled_sizes(SCALES) if settings.is_fine_tuning and not settings.demo else []
    batches = partial(
        train_batches,
        train_data,
        max([settings.input_size, *sizes]),
        settings.batch_size,
        multi_scale=sizes,
        augment=augment,
        **settings.data_options,
    )

    # Model
    model = ThunderNet(
        class_names=train_data.class_names,
        input_shape=settings.input_shape,
        variant=settings.variant,
        weights_backbone=settings.weights_backbone,
    )
    runs.load_initial_weights(model, settings)

    # Optimizer: the paper's SGD from trained weights, Adam from scratch
    if settings.is_fine_tuning:
        peak = RATE * settings.batch_size / RATE_BATCH
        drops = [round(steps * share) for share in DROPS]
        rate = warmup_step(peak, drops, min(WARMUP_STEPS, steps // 10), warmup_start=WARMUP_START)
        optimizer = runs.sgd_with_l2(rate, DECAY, global_clipnorm=10.0, **runs.ema(steps))
    else:
        optimizer = runs.adam_from_scratch(SCRATCH_RATE, steps_per_epoch, steps)
    model.compile(optimizer)

    # Fit
    evaluation = EvaluateDetector(test_data, metric="voc07", **settings.evaluation)
    runs.fit(model, batches, settings, evaluation, train_data, test_data, augment=augment, sizes=sizes)

    # Evaluate, export
    runs.report_detection(model, test_data, settings)
    runs.export_and_check(model, train_data, settings)


if __name__ == "__main__":
    main()
