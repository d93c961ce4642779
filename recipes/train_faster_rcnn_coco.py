"""Faster R-CNN with a feature pyramid on COCO 2017, or on your own images with boxes: a VOC tree or a COCO folder.

    lightdet train faster_rcnn_coco --demo                                            # synthetic scenes, small network
    python recipes/train_faster_rcnn_coco.py --data-dir D --export                    # your images, from scratch
    python recipes/train_faster_rcnn_coco.py --weights-backbone resnet50.weights.h5   # COCO 2017, torchvision's way

From a trained ResNet-50 (`keras_lightdet.foreign_weights.load_resnet` reads torchvision's) it trains as torchvision: 16
images a step, SGD at 0.02 after 1000 steps of warm-up, drops to a tenth at epochs 16 and 22 of 26, frozen batch norms,
stem and stage 2. From scratch it is Adam on all layers. Images are stretched to a square of about the pixels of
torchvision's 800 x 1333, and varied more than by torchvision, which only flips them.

Duration: the demo 16 minutes on two CPU cores that tests used too; COCO not measured.
Score: demo 72.5 % VOC 2007 mAP; COCO not measured. torchvision: 37.0 AP.
"""

from collections.abc import Callable, Sequence
from functools import partial

from keras_lightdet import FasterRCNN, TwoStageDetector, runs
from keras_lightdet.data import train_batches
from keras_lightdet.evaluation import EvaluateDetector
from keras_lightdet.training import warmup_step

VARIANTS = ("torchvision", "mmdetection")
DEFAULTS = {"epochs": 26, "input_size": 1024, "batch_size": 16}
DEMO = {"epochs": 12, "input_size": 192, "batch_size": 8}
RATE, RATE_BATCH, DECAY, DROPS = 0.02, 16, 1e-4, (16 / 26, 22 / 26)  # torchvision's; drops as shares of the run
WARMUP_STEPS, WARMUP_START = 1000, 1e-3
SCRATCH_RATE = 1e-3


@runs.report_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Trains, evaluates and exports."""
    settings = runs.start(runs.RunSettings, argv, __doc__, "faster_rcnn_coco", DEFAULTS, DEMO, variants=VARIANTS)

    # Data
    train_data, test_data = runs.load_detection_splits(settings, runs.fetch_coco)
    steps_per_epoch, steps = settings.count_steps(len(train_data))
    augment = runs.scratch_augment(settings, steps)
    batches = partial(
        train_batches, train_data, settings.input_size, settings.batch_size, augment=augment, **settings.data_options
    )

    # Model
    build: Callable[..., TwoStageDetector] = FasterRCNN
    if settings.demo:
        build = partial(build, depth=18, width=64, head_width=256)
    if not settings.is_fine_tuning:
        build = partial(build, trainable_stages=5, batch_norm="trained")
    model = build(
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
    evaluation = EvaluateDetector(test_data, metric="coco", **settings.evaluation)
    runs.fit(model, batches, settings, evaluation, train_data, test_data, augment=augment)

    # Evaluate, export
    runs.report_detection(model, test_data, settings)
    runs.export_and_check(model, train_data, settings)


if __name__ == "__main__":
    main()
