"""DFANet (Li et al. 2019) on CamVid, or on your own label images: SegNet's layout, parallel folders or Cityscapes.

    lightdet train dfanet_camvid --demo                                               # synthetic scenes
    python recipes/train_dfanet_camvid.py --data-dir D --export                       # CamVid or your images
    python recipes/train_dfanet_camvid.py --data-dir D --weights-backbone xception_b.weights.h5

From a classifier's weights (train_backbone_imagenet.py) it trains as the paper: SGD, 0.2 at batch 48 falling by a power
of 0.9, decay 1e-5, scales of 0.75 to 1.75; warm-up and averaged weights are ours, and so is Adam from scratch.
CamVid in SegNet's form is 480 x 360 with 11 classes, the paper's 960 x 720. The best weights are selected on "val" and
evaluated on "test".

Duration: CamVid (367 images, --epochs 50 --evaluate-every 5) 36 minutes, the demo 10 minutes, both on one CPU core.
Score, mIoU: CamVid 36.9 %, demo 42.1 %. The paper: 59.3 % for B, pre-trained.
"""

from collections.abc import Sequence
from functools import partial

import keras

from keras_lightdet import DFANet, runs
from keras_lightdet.data import SegmentationAugmentSpec, segmentation_train_batches
from keras_lightdet.evaluation import EvaluateSegmenter
from keras_lightdet.training import warmup_poly

VARIANTS = ("b", "a")
DEFAULTS = {"epochs": 60, "input_size": (360, 480), "batch_size": 8, "crop_size": lambda s: s.input_size}
DEMO = {"epochs": 30, "input_size": (128, 160), "batch_size": 8, "crop_size": lambda s: s.input_size}
RATE, RATE_BATCH, DECAY = 0.2, 48, 1e-5  # the paper's
SCALES, WARMUP_STEPS = (0.75, 1.75), 1000
SCRATCH_RATE = 1e-2


@runs.report_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Trains, evaluates and exports."""
    settings = runs.start(runs.SegmentationSettings, argv, __doc__, "dfanet_camvid", DEFAULTS, DEMO, variants=VARIANTS)

    # Data
    train_data, val_data, test_data = runs.load_segmentation_splits(settings, runs.CAMVID)
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
