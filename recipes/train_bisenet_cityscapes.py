"""BiSeNet (Yu et al. 2018) on Cityscapes: leftImg8bit/ and gtFine/ in one folder, downloaded by hand.

    lightdet train bisenet_cityscapes --demo                                          # synthetic scenes
    python recipes/train_bisenet_cityscapes.py --data-dir D --export                  # from scratch
    python recipes/train_bisenet_cityscapes.py --data-dir D --weights-backbone xception39.weights.h5

As train_bisenet_camvid.py, trained on crops of 1024 x 1024 and evaluated on whole images. The best weights are selected
and evaluated on "val": the labels of "test" are not public.

Duration: the demo 7 minutes on one CPU core; Cityscapes not measured.
Score, mIoU: demo 46.7 %; Cityscapes not measured. The paper: 69.0 % on val for Xception39, 74.8 % for ResNet-18.
"""

from collections.abc import Sequence
from functools import partial

import keras

from keras_lightdet import BiSeNet, runs
from keras_lightdet.data import SegmentationAugmentSpec, segmentation_train_batches
from keras_lightdet.evaluation import EvaluateSegmenter
from keras_lightdet.training import warmup_poly

VARIANTS = ("xception39", "resnet18")
DEFAULTS = {"epochs": 480, "input_size": (1024, 2048), "batch_size": 16, "crop_size": (1024, 1024)}
DEMO = {"epochs": 30, "input_size": (128, 160), "batch_size": 8, "crop_size": lambda s: s.input_size}
RATE, RATE_BATCH, DECAY = 0.025, 16, 1e-4  # the paper's
SCALES, WARMUP_STEPS = (0.75, 2.0), 1000
SCRATCH_RATE = 2e-3


@runs.report_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Trains, evaluates and exports."""
    settings = runs.start(
        runs.SegmentationSettings, argv, __doc__, "bisenet_cityscapes", DEFAULTS, DEMO, variants=VARIANTS
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
    model = BiSeNet(
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
