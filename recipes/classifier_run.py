"""What the recipes of classifiers share: flags, data, schedule, callbacks and what is left in the output folder."""

import argparse
import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
from shared_run import report_errors, train_resumable

from keras_lightdet import training
from keras_lightdet.data import (
    ClassificationData,
    DecodeFailures,
    classification_eval_batches,
    classification_train_batches,
    draw_classification_scenes,
    extract_imagenet,
    load_classification,
)
from keras_lightdet.evaluation import EvaluateClassifier
from keras_lightdet.weights import SUFFIX

IMAGE_SIZE, MOMENTUM = 224, 0.9
DEMO = {"epochs": 20, "batch_size": 32, "image_size": 64, "train": 200, "val": 40}


@dataclass(frozen=True)
class Schedule:
    """How a classifier is trained: SGD of momentum 0.9 whose rate falls in a line to 0.

    Attributes:
        rate: At the start, for `batch_size`; other batches get their share of it.
        batch_size: Images per step.
        decay: Of the weights, as it is put into the gradients.
        smoothing: Of the labels.
        epochs: Length; None where `steps` tells it.
        steps: Length in steps, whatever the data; None where `epochs` tells it.
    """

    rate: float
    batch_size: int
    decay: float
    smoothing: float
    epochs: int | None = None
    steps: int | None = None


def parse_args(
    doc: str, *, name: str, variants: Sequence[str], schedule: Schedule, argv: Sequence[str] | None = None
) -> argparse.Namespace:
    """Reads the flags that all classifier recipes have.

    Args:
        doc: The recipe's docstring.
        name: Of the output folder.
        variants: What can be trained, the default first.
        schedule: Defaults of length and batch size.
        argv: In place of the command line.
    """
    length = f"{schedule.epochs}" if schedule.epochs else f"as many as make {schedule.steps} steps"
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="folders of classes; without it TensorFlow Datasets' ImageNet")
    parser.add_argument("--output-dir", type=Path, default=Path("runs") / name, help="default: %(default)s")
    parser.add_argument("--variant", choices=variants, default=variants[0], help="default: %(default)s")
    parser.add_argument("--epochs", type=int, help=f"default: {length}")
    parser.add_argument("--batch-size", type=int, help=f"default: {schedule.batch_size}")
    parser.add_argument("--image-size", type=int, help=f"side of the network input in pixels; default: {IMAGE_SIZE}")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --output-dir")
    parser.add_argument("--demo", action="store_true", help="train on drawn objects: no data, no network, some minutes")
    parser.add_argument(
        "--seed", type=int, default=0, help="of weights, shuffle and augmentation; default: %(default)s"
    )
    args = parser.parse_args(argv)
    if args.demo and args.data_dir:
        parser.error("--demo draws its own data: leave out --data-dir.")
    own = {"epochs": schedule.epochs, "batch_size": schedule.batch_size, "image_size": IMAGE_SIZE}
    defaults = DEMO if args.demo else own
    args.epochs = args.epochs or defaults["epochs"]
    args.batch_size = args.batch_size or defaults["batch_size"]
    args.image_size = args.image_size or defaults["image_size"]
    return args


def train(args: argparse.Namespace, build: Callable[..., keras.Model], schedule: Schedule) -> None:
    """Trains what `build` builds and tells the score of the best weights; ends with a fault's message."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    training.make_reproducible(args.seed)
    with report_errors():
        _train(args, build, schedule)


def _train(args: argparse.Namespace, build: Callable[..., keras.Model], schedule: Schedule) -> None:
    train_data, test_data = _load(args)
    steps_per_epoch = -(-len(train_data) // args.batch_size)
    args.epochs = args.epochs or -(-schedule.steps // steps_per_epoch)
    names = train_data.class_names
    print(f"{len(train_data)} images to train on, {len(test_data)} to score on, {len(names)} classes")
    size = args.image_size
    model = build((size, size, 3), num_classes=len(names))
    model.class_names = names
    _compile(model, schedule, args.batch_size, steps_per_epoch * args.epochs)
    best_path = args.output_dir / f"best{SUFFIX}"
    _fit(model, args, train_data, test_data, steps_per_epoch, best_path)
    figures = model.evaluate(classification_eval_batches(test_data, size, args.batch_size), verbose=0, return_dict=True)
    print(f"best weights {best_path}: top-1 error {100 * (1 - figures['accuracy']):.1f} %")


def _load(args: argparse.Namespace) -> tuple[ClassificationData, ClassificationData]:
    """Returns what to train on and what to score on."""
    folder = args.data_dir
    if args.demo:
        splits = {split: DEMO[split] for split in ("train", "val")}
        folder = draw_classification_scenes(args.output_dir / "objects", splits, seed=args.seed)
    return load_classification(folder or extract_imagenet(args.output_dir.parent / "data"))


def _compile(model: keras.Model, schedule: Schedule, batch_size: int, steps: int) -> None:
    """Compiles for the schedule, over as many steps as the run has."""
    rate = schedule.rate * batch_size / schedule.batch_size
    rates = keras.optimizers.schedules.PolynomialDecay(rate, steps, end_learning_rate=0.0)
    # Keras takes the decay off the weights, the authors put it into the gradients, where momentum sums it up.
    optimizer = keras.optimizers.SGD(rates, momentum=MOMENTUM, weight_decay=schedule.decay / (1 - MOMENTUM))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=schedule.smoothing)
    top5 = keras.metrics.TopKCategoricalAccuracy(5, name="top5_accuracy")
    model.compile(optimizer, loss=loss, metrics=[keras.metrics.CategoricalAccuracy(name="accuracy"), top5])


def _fit(
    model: keras.Model,
    args: argparse.Namespace,
    train_data: ClassificationData,
    test_data: ClassificationData,
    steps_per_epoch: int,
    best_path: Path,
) -> None:
    """Trains, or goes on with it."""
    size, failures = args.image_size, DecodeFailures()

    def batches(step: int):
        return classification_train_batches(
            train_data, size, args.batch_size, seed=args.seed, start_step=step, failures=failures
        )

    test_batches = classification_eval_batches(test_data, size, args.batch_size, failures=failures)
    scores = EvaluateClassifier(test_batches, best_path=best_path)
    guard = training.HaltOnNaN()
    config = {key: getattr(args, key) for key in ("variant", "epochs", "batch_size", "image_size", "seed")}
    config |= {"classes": list(train_data.class_names), "data": fingerprint(train_data)}
    train_resumable(model, batches, args, steps_per_epoch=steps_per_epoch, scores=scores, guard=guard, config=config)


def fingerprint(data: ClassificationData) -> str:
    """Returns a hash of the images' names and labels, wherever the folder stands."""
    digest = hashlib.sha256()
    for record in data.records:
        digest.update(f"{Path(record.path).name} {record.label}\n".encode())
    return digest.hexdigest()
