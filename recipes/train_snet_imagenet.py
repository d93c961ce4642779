"""SNet, the backbone of ThunderNet (Qin et al. 2019), as a classifier on ImageNet, or on your own folders of classes.

    lightdet train snet_imagenet --demo                                           # synthetic objects
    python recipes/train_snet_imagenet.py --data-dir D --variant snet49           # D/train/<class>/, D/val/<class>/
    python recipes/train_snet_imagenet.py                                         # ImageNet 2012

The schedule of ThunderNet's authors: SGD falling linearly from 0.5 at batch 512 to 0, decay 4e-5, label smoothing 0.1,
random crops, flips and colors at 224 pixels; 120 epochs are their 300,000 steps. ImageNet cannot be fetched: register,
and put its two archives into TensorFlow Datasets' folder downloads/manual.

The output folder holds best.weights.h5 and its record best.weights.json, which `--weights-backbone` of the ThunderNet
recipes takes, last/ (for --resume), metrics.json, scores.json, labels.txt and logs/ (TensorBoard).

Duration in hours: not measured on any CPU or GPU.
Score: not measured. The paper: 32.2 % top-1 error for SNet146.
"""

from collections.abc import Sequence
from functools import partial

import keras

from keras_lightdet import runs
from keras_lightdet.backbones import SNet
from keras_lightdet.data import classification_eval_batches, classification_train_batches
from keras_lightdet.evaluation import EvaluateClassifier

VARIANTS = ("snet146", "snet49", "snet535")
DEFAULTS = {"epochs": 120, "input_size": 224, "batch_size": 512}
DEMO = {"epochs": 20, "input_size": 64, "batch_size": 32}
RATE, RATE_BATCH, DECAY, LABEL_SMOOTHING = 0.5, 512, 4e-5, 0.1


@runs.report_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Trains and evaluates."""
    settings = runs.start(
        runs.ClassificationSettings, argv, __doc__, "snet_imagenet", DEFAULTS, DEMO, variants=VARIANTS
    )

    # Data
    train_data, val_data = runs.load_classification_splits(settings)
    _, steps = settings.count_steps(len(train_data))
    batches = partial(classification_train_batches, train_data, settings.side, settings.batch_size, seed=settings.seed)
    val_batches = classification_eval_batches(val_data, settings.side, settings.batch_size)

    # Model
    model = SNet(settings.input_shape, variant=settings.variant, num_classes=len(train_data.class_names))
    model.class_names = train_data.class_names
    runs.load_initial_weights(model, settings)

    # Optimizer
    peak = RATE * settings.batch_size / RATE_BATCH
    rate = keras.optimizers.schedules.PolynomialDecay(peak, steps, end_learning_rate=0.0)
    accuracy = keras.metrics.CategoricalAccuracy(name="accuracy")
    model.compile(
        runs.sgd_with_l2(rate, DECAY),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=LABEL_SMOOTHING),
        metrics=[accuracy, keras.metrics.TopKCategoricalAccuracy(5, name="top5_accuracy")],
    )

    # Fit
    evaluation = EvaluateClassifier(val_batches, best_path=settings.best_path, evaluate_every=settings.evaluate_every)
    runs.fit(model, batches, settings, evaluation, train_data, val_data)

    # Evaluate
    runs.report_classification(model, val_data, settings)


if __name__ == "__main__":
    main()
