"""RetinaNet on SpineNet (Du et al. 2020) on COCO 2017, or on your own images with boxes: a VOC tree or a COCO folder.

    lightdet train spinenet_coco --demo                                                        # synthetic scenes
    python recipes/train_spinenet_coco.py --data-dir D --export                                # your images
    python recipes/train_spinenet_coco.py --variant spinenet49 --protocol c --batch-size 256   # COCO 2017
    python recipes/train_spinenet_coco.py --variant spinenet49 --graph found.json              # of search_spinenet.py

The paper (section 4.2) trains from scratch: SGD, 5 epochs of warm-up to 0.28 for 256 images a step, a tenth of it in
the last 30 epochs and a hundredth in the last 10, decay 4e-5 of kernels, flips, and scales by `--protocol`. Batches
below 64, the demo and `--weights` train as RSANet: Adam with a cosine, and anchors that fit the training boxes. Ours:
350 epochs for mobile ones (the paper: 600), images stretched to a square, and DropBlock of a tenth in squares of 7.

Duration in hours: not measured on any CPU or GPU.
Score: demo of mobile_spinenet49 28.7 % VOC 2007 mAP; COCO not measured. The paper, SpineNet-49: 42.8 AP by protocol b,
44.3 by c.
"""

from collections.abc import Sequence
from functools import partial

from keras_lightdet import RetinaNet, runs
from keras_lightdet.data import train_batches
from keras_lightdet.evaluation import EvaluateDetector
from keras_lightdet.models import retinanet
from keras_lightdet.runs.spinenet import PROTOCOLS, SpineNetSettings
from keras_lightdet.training import warmup_step

VARIANTS = tuple(sorted(retinanet.VARIANTS, key="mobile_spinenet49".__ne__))  # the default first
DEFAULTS = {
    "epochs": lambda s: PROTOCOLS[s.protocol].epochs,
    "input_size": lambda s: retinanet.VARIANTS[s.variant].input_shape[:2],
    "batch_size": 16,
}
DEMO = {"epochs": 20, "input_size": 192, "batch_size": 8}
SMALL_BATCH, RATE, RATE_BATCH, DECAY, NOT_DECAYED = 64, 0.28, 256, 4e-5, ("bias", "gamma", "beta")
WARMUP_EPOCHS, WARMUP_START, DROP_EPOCHS = 5, 0.0067 / 0.28, (30, 10)
SCRATCH_RATE, DEMO_RATE = 1e-3, 4e-3  # 20 epochs of the demo reached an AP50 of 7.6 at 1e-3, of 27.0 at 4e-3


@runs.report_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Trains, evaluates and exports."""
    settings = runs.start(SpineNetSettings, argv, __doc__, "spinenet_coco", DEFAULTS, DEMO, variants=VARIANTS)
    protocol = PROTOCOLS[settings.protocol]
    use_paper_schedule = not (settings.demo or settings.weights) and settings.batch_size >= SMALL_BATCH

    # Data
    train_data, test_data = runs.load_detection_splits(settings, runs.fetch_coco)
    steps_per_epoch, steps = settings.count_steps(len(train_data))
    augment = protocol.augment if use_paper_schedule else runs.scratch_augment(settings, steps)
    batches = partial(
        train_batches, train_data, settings.input_size, settings.batch_size, augment=augment, **settings.data_options
    )

    # Model
    anchor_scale = retinanet.VARIANTS[settings.variant].anchor_scale
    if not use_paper_schedule:
        anchor_scale = runs.fit_run_anchor_scale(settings, train_data, anchor_scale)
    model = RetinaNet(
        class_names=train_data.class_names,
        input_shape=settings.input_shape,
        variant=settings.variant,
        weights_backbone=settings.weights_backbone,
        anchor_scale=anchor_scale,
        blocks=settings.blocks,
        **protocol.options,
    )
    runs.load_initial_weights(model, settings)

    # Optimizer
    if use_paper_schedule:  # at the same shares of shorter runs
        warmup, *last = (round(count / protocol.epochs * steps) for count in (WARMUP_EPOCHS, *DROP_EPOCHS))
        drops = [steps - count for count in last]
        rate = warmup_step(RATE * settings.batch_size / RATE_BATCH, drops, warmup, warmup_start=WARMUP_START)
        optimizer = runs.sgd_with_l2(rate, DECAY, exclude=NOT_DECAYED, global_clipnorm=10.0)
    else:
        optimizer = runs.adam_from_scratch(DEMO_RATE if settings.demo else SCRATCH_RATE, steps_per_epoch, steps)
    model.compile(optimizer)

    # Fit
    evaluation = EvaluateDetector(test_data, metric="coco", **settings.evaluation)
    runs.fit(model, batches, settings, evaluation, train_data, test_data, augment=augment)

    # Evaluate, export
    runs.report_detection(model, test_data, settings)
    runs.export_and_check(model, train_data, settings)


if __name__ == "__main__":
    main()
