"""RSANet (Zhou et al. 2021) on PASCAL VOC, or on your own images with boxes: a VOC tree or a COCO folder.

    lightdet train rsanet_voc --demo                            # synthetic scenes, no data needed
    python recipes/train_rsanet_voc.py --data-dir D --export    # your images
    python recipes/train_rsanet_voc.py                          # VOC 2007+2012 trainval, evaluated on VOC 2007 test

The paper's schedule: Adam from scratch, batch 12 at 416 pixels (24 at 320), one epoch of warm-up to 1e-3, a cosine down
to 1e-6. It states neither epochs nor augmentation; those below are ours.

Duration: the demo 10 minutes, BCCD (292 images, --input-size 320 --batch-size 8 --epochs 100) 28 minutes, both on two
CPU cores; VOC not measured.
Score, VOC 2007 mAP: demo 63.8 %, BCCD 87.6 %; VOC not measured. The paper: 6.7 points above YOLO Nano's 69.1 % on VOC.

The output folder holds best.weights.h5 and its record best.weights.json, last/ (for --resume), metrics.json,
scores.json, labels.txt, logs/ (TensorBoard), predictions.png, precision_recall.png and, with --export, detector.tflite.
"""

from collections.abc import Sequence
from functools import partial

import keras

from keras_lightdet import RSANet, runs
from keras_lightdet.data import train_batches
from keras_lightdet.evaluation import EvaluateDetector
from keras_lightdet.training import warmup_cosine

DEFAULTS = {
    "epochs": 120,
    "input_size": 416,
    "batch_size": lambda settings: 24 if settings.input_size[0] <= 320 else 12,
}
DEMO = {"epochs": 50, "input_size": 192, "batch_size": 8}
RATE, DEMO_RATE, FINAL_RATE = 1e-3, 3e-3, 1e-6


@runs.report_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Trains, evaluates and exports."""
    omit = ("weights_backbone",)
    settings = runs.start(runs.RunSettings, argv, __doc__, "rsanet_voc", DEFAULTS, DEMO, omit=omit)

    # Data
    train_data, test_data = runs.load_detection_splits(settings, runs.fetch_voc)
    steps_per_epoch, steps = settings.count_steps(len(train_data))
    augment = runs.scratch_augment(settings, steps)
    batches = partial(
        train_batches, train_data, settings.input_size, settings.batch_size, augment=augment, **settings.data_options
    )

    # Model
    anchors = runs.fit_run_anchors(settings, train_data, num_levels=3, per_level=3)
    model = RSANet(class_names=train_data.class_names, input_shape=settings.input_shape, anchors=anchors)
    runs.load_initial_weights(model, settings)

    # Optimizer
    peak = DEMO_RATE if settings.demo else RATE
    rate = warmup_cosine(peak, steps, min(steps_per_epoch, steps // 2), final=FINAL_RATE)
    model.compile(keras.optimizers.Adam(rate, global_clipnorm=10.0, **runs.ema(steps)))

    # Fit
    evaluation = EvaluateDetector(test_data, metric="voc07", **settings.evaluation)
    runs.fit(model, batches, settings, evaluation, train_data, test_data, augment=augment)

    # Evaluate, export
    runs.report_detection(model, test_data, settings)
    runs.export_and_check(model, train_data, settings)


if __name__ == "__main__":
    main()
