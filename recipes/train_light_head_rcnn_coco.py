"""Light-Head R-CNN (Li et al. 2017) on COCO 2017, or on your own images with boxes: a VOC tree or a COCO folder.

    lightdet train light_head_rcnn_coco --demo                                            # synthetic scenes
    python recipes/train_light_head_rcnn_coco.py --data-dir D --export                    # your images, from scratch
    python recipes/train_light_head_rcnn_coco.py --weights-backbone xception.weights.h5   # COCO 2017, the authors' way

From a trained backbone it trains as the authors: 16 images a step, SGD at 0.01 after 500 steps of warm-up, drops to a
tenth at epochs 19 and 25 of 30, frozen batch norms and stem (of setting L: and stage 2). From scratch it is Adam on all
layers, and 30 epochs are few. Images are stretched to a square of about the pixels of the authors' 800 x 1200. A step
of setting L at its own size needs a large GPU.

Duration in hours: not measured on any CPU or GPU.
Score: not measured. The paper: 30.7 AP for setting S at 700 x 1100, 40.0 for L.
"""

from collections.abc import Sequence
from functools import partial

from keras_lightdet import LightHeadRCNN, runs
from keras_lightdet.backbones.freezing import freeze
from keras_lightdet.data import train_batches
from keras_lightdet.evaluation import EvaluateDetector
from keras_lightdet.training import warmup_step

VARIANTS = ("s", "l")
DEFAULTS = {"epochs": 30, "input_size": 960, "batch_size": 16}
DEMO = {"epochs": 20, "input_size": 192, "batch_size": 8}  # few epochs: each image has 2000 proposals to train on
RATE, RATE_BATCH, DECAY, DROPS = 0.01, 16, 1e-4, (19 / 30, 25 / 30)  # the paper's; drops as shares of the run
WARMUP_STEPS, WARMUP_START = 500, 1 / 3
SCRATCH_RATE = 1e-3
TRAINABLE_STAGES = {"s": 4, "l": 3}  # of a trained backbone: all but the stem, and L's stage 2


@runs.report_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Trains, evaluates and exports."""
    settings = runs.start(runs.RunSettings, argv, __doc__, "light_head_rcnn_coco", DEFAULTS, DEMO, variants=VARIANTS)

    # Data
    train_data, test_data = runs.load_detection_splits(settings, runs.fetch_coco)
    steps_per_epoch, steps = settings.count_steps(len(train_data))
    augment = runs.scratch_augment(settings, steps)
    batches = partial(
        train_batches, train_data, settings.input_size, settings.batch_size, augment=augment, **settings.data_options
    )

    # Model
    model = LightHeadRCNN(
        class_names=train_data.class_names,
        input_shape=settings.input_shape,
        variant=settings.variant,
        weights_backbone=settings.weights_backbone,
    )
    runs.load_initial_weights(model, settings)
    if settings.weights_backbone:
        freeze(model.backbone, trainable_stages=TRAINABLE_STAGES[settings.variant], batch_norm="frozen")

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
    evaluation = EvaluateDetector(test_data, metric="coco", **settings.evaluation)
    runs.fit(model, batches, settings, evaluation, train_data, test_data, augment=augment)

    # Evaluate, export
    runs.report_detection(model, test_data, settings)
    runs.export_and_check(model, train_data, settings)


if __name__ == "__main__":
    main()
