"""EfficientDet (Tan et al. 2020) on COCO 2017, or on your own images with boxes: a VOC tree or a COCO folder.

    lightdet train efficientdet_coco --demo                                            # synthetic scenes
    python recipes/train_efficientdet_coco.py --data-dir D --variant lite0 --export    # your images, from scratch
    python recipes/train_efficientdet_coco.py --weights-backbone b0.weights.h5         # COCO 2017, the paper's way

The paper (section 5.1) starts from an ImageNet classifier, `--weights-backbone`: SGD, 0.08 for 64 images a step, one
epoch of warm-up, a cosine over 300 epochs, decay 4e-5 of kernels, averaged weights, flips and scales of 0.1 to 2. From
scratch it is Adam with milder augmentation, and anchors that fit the training boxes: SGD needs more images.

Duration in hours: not measured on any CPU or GPU.
Score: not measured on COCO. The paper: 34.6 AP for D0.
"""

from collections.abc import Sequence
from functools import partial

from keras_lightdet import EfficientDet, runs
from keras_lightdet.data import AugmentSpec, train_batches
from keras_lightdet.evaluation import EvaluateDetector
from keras_lightdet.models.efficientdet import VARIANTS
from keras_lightdet.training import warmup_cosine

DEFAULTS = {"epochs": 300, "input_size": lambda s: VARIANTS[s.variant].input_shape[:2], "batch_size": 64}
DEMO = {"epochs": 20, "input_size": 192, "batch_size": 8}
RATE, RATE_BATCH, DECAY = 0.08, 64, 4e-5
SCRATCH_RATE, DEMO_RATE = 1e-3, 4e-3
NOT_DECAYED = ("bias", "gamma", "beta", "fusion/weight")
JITTER = AugmentSpec(zoom_out=0, crop=0, mosaic=0, color=0, jitter=1.0, jitter_scale=(0.1, 2.0), jitter_aspect=1.0)


@runs.report_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Trains, evaluates and exports."""
    settings = runs.start(
        runs.RunSettings, argv, __doc__, "efficientdet_coco", DEFAULTS, DEMO, variants=tuple(VARIANTS)
    )

    # Data
    train_data, test_data = runs.load_detection_splits(settings, runs.fetch_coco)
    steps_per_epoch, steps = settings.count_steps(len(train_data))
    augment = JITTER if settings.is_fine_tuning and not settings.demo else runs.scratch_augment(settings, steps)
    batches = partial(
        train_batches, train_data, settings.input_size, settings.batch_size, augment=augment, **settings.data_options
    )

    # Model
    anchor_scale = VARIANTS[settings.variant].anchor_scale
    if not settings.weights_backbone:
        anchor_scale = runs.fit_run_anchor_scale(settings, train_data, anchor_scale)
    model = EfficientDet(
        class_names=train_data.class_names,
        input_shape=settings.input_shape,
        variant=settings.variant,
        anchor_scale=anchor_scale,
        weights_backbone=settings.weights_backbone,
    )
    runs.load_initial_weights(model, settings)

    # Optimizer: the paper's SGD from trained weights, Adam from scratch
    if settings.is_fine_tuning:
        peak = RATE * settings.batch_size / RATE_BATCH
        rate = warmup_cosine(peak, steps, min(steps_per_epoch, steps // 2), final=1e-6)
        optimizer = runs.sgd_with_l2(rate, DECAY, exclude=NOT_DECAYED, global_clipnorm=10.0, **runs.ema(steps))
    else:
        peak = DEMO_RATE if settings.demo else SCRATCH_RATE
        optimizer = runs.adam_from_scratch(peak, steps_per_epoch, steps)
    model.compile(optimizer)

    # Fit
    evaluation = EvaluateDetector(test_data, metric="coco", **settings.evaluation)
    runs.fit(model, batches, settings, evaluation, train_data, test_data, augment=augment)

    # Evaluate, export
    runs.report_detection(model, test_data, settings)
    runs.export_and_check(model, train_data, settings)


if __name__ == "__main__":
    main()
