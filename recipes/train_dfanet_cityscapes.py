"""DFANet (Li et al. 2019) on Cityscapes: leftImg8bit/ and gtFine/ in one folder, downloaded by hand.

    lightdet train dfanet_cityscapes --demo                                           # synthetic scenes
    python recipes/train_dfanet_cityscapes.py --data-dir D --export                   # from scratch
    python recipes/train_dfanet_cityscapes.py --data-dir D --weights-backbone xception_a.weights.h5

As train_dfanet_camvid.py, with images stretched to 1024 x 1024. The best weights are selected and evaluated on "val":
the labels of "test" are not public.

Duration: the demo 9 minutes on one CPU core; Cityscapes not measured.
Score, mIoU: demo 42.8 %; Cityscapes not measured. The paper: 71.3 % on test for A, 67.1 % for B.
"""

from collections.abc import Sequence
from functools import partial

import keras

from keras_lightdet import DFANet, runs
from keras_lightdet.data import SegmentationAugmentSpec, segmentation_train_batches
from keras_lightdet.evaluation import EvaluateSegmenter
from keras_lightdet.training import warmup_poly

VARIANTS = ("a", "b")
DEFAULTS = {"epochs": 480, "input_size": (1024, 1024), "batch_size": 48, "crop_size": lambda s: s.input_size}
DEMO = {"epochs": 30, "input_size": (128, 160), "batch_size": 8, "crop_size": lambda s: s.input_size}
RATE, RATE_BATCH, DECAY = 0.2, 48, 1e-5  # the paper's
SCALES, WARMUP_STEPS = (0.75, 1.75), 1000
SCRATCH_RATE = 1e-2


@runs.report_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Trains, evaluates and exports."""
    settings = runs.start(
        runs.SegmentationSettings, argv, __doc__, "dfanet_cityscapes", DEFAULTS, DEMO, variants=VARIANTS
    )

    # Data
    train_data, val_data, test_data = runs.load_segmentation_splits(settings, runs.CITYSCAPES)
    _, steps = settings.count_steps(len(train_data))
    augment = runs.DEMO_SEGMENTATION_AUGMENT if settings.demo else SegmentationAugmentSpec(scales=SCALES)
    batches = partial(
        segmentation_train_batches,
        train_data,
        settings.input_size,
        settings.batch_size,
        augment=augment,
        crop_size=settings.crop_size,
        **settings.data_options,
    )

    # Model
    model = DFANet(
        class_names=train_data.class_names,
        input_shape=settings.input_shape,
        variant=settings.variant,
        weights_backbone=settings.weights_backbone,
    )
    runs.load_initial_weights(model, settings)

    # Optimizer: the paper's SGD from trained weights, Adam from scratch
    warmup_steps = min(WARMUP_STEPS, steps // 20)
    if settings.is_fine_tuning:
        rate = warmup_poly(RATE * settings.batch_size / RATE_BATCH, steps, warmup_steps)
        optimizer = runs.sgd_with_l2(rate, DECAY, **runs.ema(steps))
    else:
        rate = warmup_poly(SCRATCH_RATE, steps, warmup_steps)
        optimizer = keras.optimizers.Adam(rate, global_clipnorm=10.0, **runs.ema(steps))
    model.compile(optimizer)

    # Fit
    evaluation = EvaluateSegmenter(val_data, **settings.evaluation)
    runs.fit(model, batches, settings, evaluation, train_data, val_data, augment=augment)

    # Evaluate, export
    runs.report_segmentation(model, test_data, settings)
    runs.export_and_check(model, train_data, settings)


if __name__ == "__main__":
    main()
