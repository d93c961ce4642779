"""The backbones of BiSeNet and DFANet as classifiers on ImageNet, or on your own folders of classes.

    lightdet train backbone_imagenet --demo                                        # synthetic objects
    python recipes/train_backbone_imagenet.py --data-dir D --variant resnet18      # D/train/<class>/, D/val/<class>/
    python recipes/train_backbone_imagenet.py --variant xception_a                 # ImageNet 2012

"xception39" and "resnet18" are BiSeNet's, "xception_a" and "xception_b" DFANet's. The papers do not say how theirs were
trained: the Xceptions take the rate and decay of a re-implementation of DFANet, ResNet-18 those of He et al. 2016. The
rates fall linearly to 0, which is ours. DFANet's attention starts from the dense layer of a classifier of 1000 classes.
ImageNet cannot be fetched: register, and put its archives into TensorFlow Datasets' folder downloads/manual.

The output folder holds best.weights.h5 and its record best.weights.json, which `--weights-backbone` of the BiSeNet and
DFANet recipes takes, last/ (for --resume), metrics.json, scores.json, labels.txt and logs/ (TensorBoard).

Duration in hours: not measured on any CPU or GPU.
Score: not measured. The papers state none; the re-implementation's Xception A reached 57.3 % top-1 accuracy.
"""

from collections.abc import Callable, Sequence
from functools import partial

import keras

from keras_lightdet import runs
from keras_lightdet.backbones import ResNet, Xception39, XceptionDFANet
from keras_lightdet.classification import Classifier
from keras_lightdet.data import classification_eval_batches, classification_train_batches
from keras_lightdet.evaluation import EvaluateClassifier

BUILDERS: dict[str, Callable[..., Classifier]] = {
    "xception39": Xception39,
    "resnet18": partial(ResNet, depth=18),
    "xception_a": partial(XceptionDFANet, variant="a"),
    "xception_b": partial(XceptionDFANet, variant="b"),
}
DEFAULTS = {"epochs": 90, "input_size": 224, "batch_size": 256}
DEMO = {"epochs": 20, "input_size": 64, "batch_size": 32}
RATE_BATCH = 256
RATES = {"resnet18": (0.1, 1e-4)}  # rate and decay of He et al. 2016, section 3.4
DEFAULT_RATES = (0.3, 4e-5)  # of a re-implementation of DFANet


@runs.report_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Trains and evaluates."""
    settings = runs.start(
        runs.ClassificationSettings, argv, __doc__, "backbone_imagenet", DEFAULTS, DEMO, variants=tuple(BUILDERS)
    )

    # Data
    train_data, val_data = runs.load_classification_splits(settings)
    _, steps = settings.count_steps(len(train_data))
    batches = partial(classification_train_batches, train_data, settings.side, settings.batch_size, seed=settings.seed)
    val_batches = classification_eval_batches(val_data, settings.side, settings.batch_size)

    # Model
    model = BUILDERS[settings.variant](settings.input_shape, num_classes=len(train_data.class_names))
    model.class_names = train_data.class_names
    runs.load_initial_weights(model, settings)

    # Optimizer
    peak, decay = RATES.get(settings.variant, DEFAULT_RATES)
    peak *= settings.batch_size / RATE_BATCH
    rate = keras.optimizers.schedules.PolynomialDecay(peak, steps, end_learning_rate=0.0)
    accuracy = keras.metrics.CategoricalAccuracy(name="accuracy")
    model.compile(
        runs.sgd_with_l2(rate, decay),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=[accuracy, keras.metrics.TopKCategoricalAccuracy(5, name="top5_accuracy")],
    )

    # Fit
    evaluation = EvaluateClassifier(val_batches, best_path=settings.best_path, evaluate_every=settings.evaluate_every)
    runs.fit(model, batches, settings, evaluation, train_data, val_data)

    # Evaluate
    runs.report_classification(model, val_data, settings)


if __name__ == "__main__":
    main()
