"""RSANet (Zhou et al. 2021) on COCO 2017, or on your own images with boxes: a VOC tree or a COCO folder.

    lightdet train rsanet_coco --demo                            # synthetic scenes, no data needed
    python recipes/train_rsanet_coco.py --data-dir D --export    # your images
    python recipes/train_rsanet_coco.py                          # COCO 2017 train, evaluated on val

The paper's schedule as in train_rsanet_voc.py, at 320 pixels with batch 24, evaluated by COCO's AP. The paper's COCO
model has 4.35 M parameters, which 80 classes alone do not explain; this one has 3.44 M, and with
`widths=(32, 64, 128, 256, 640)` below 4.43 M.

Duration: the demo, which is that of train_rsanet_voc.py, 10 minutes on two CPU cores; COCO not measured.
Score: not measured. The paper: 1.3 AP above Pelee on COCO.

The output folder holds the files that train_rsanet_voc.py names.
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
    "input_size": 320,
    "batch_size": lambda settings: 24 if settings.input_size[0] <= 320 else 12,
}
DEMO = {"epochs": 50, "input_size": 192, "batch_size": 8}
RATE, DEMO_RATE, FINAL_RATE = 1e-3, 3e-3, 1e-6


@runs.report_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Trains, evaluates and exports."""
    omit = ("weights_backbone",)
    settings = runs.start(runs.RunSettings, argv, __doc__, "rsanet_coco", DEFAULTS, DEMO, omit=omit)

    # Data
    train_data, test_data = runs.load_detection_splits(settings, runs.fetch_coco)
    steps_per_epoch, steps = settings.count_steps(len(train_data))
    augment = runs.scratch_augment(settings, steps)
    batches = partial(
        train_batches, train_data, settings.input_size, settings.batch_size, augment=augment, **settings.data_options
    )

    # Model
    anchors = runs.fit_run_anchors(settings, train_data, num_levels=3, per_level=3)
    model = RSANet(
        class_names=train_data.class_names, input_shape=settings.input_shape, variant="coco", anchors=anchors
    )
    runs.load_initial_weights(model, settings)

    # Optimizer
    peak = DEMO_RATE if settings.demo else RATE
    rate = warmup_cosine(peak, steps, min(steps_per_epoch, steps // 2), final=FINAL_RATE)
    model.compile(keras.optimizers.Adam(rate, global_clipnorm=10.0, **runs.ema(steps)))

    # Fit
    evaluation = EvaluateDetector(test_data, metric="coco", **settings.evaluation)
    runs.fit(model, batches, settings, evaluation, train_data, test_data, augment=augment)

    # Evaluate, export
    runs.report_detection(model, test_data, settings)
    runs.export_and_check(model, train_data, settings)


if __name__ == "__main__":
    main()
