"""SNet, ThunderNet's backbone, as a classifier on ImageNet, or on your own folders of classes.

    python recipes/train_snet_imagenet.py --demo                               # drawn objects, minutes on two cores
    python recipes/train_snet_imagenet.py --data-dir D --variant snet49        # D/train/<class>/.., D/val/<class>/..
    python recipes/train_snet_imagenet.py                                      # imagenet2012 of TensorFlow Datasets

The recipe of ThunderNet's authors: 300,000 steps of 512 pictures at 224 pixels, SGD falling in a line from 0.5 to 0,
decay 4e-5, label smoothing 0.1, random crops, mirrors and colours (Qin et al. 2019); they report 32.2 % top-1 errors
for SNet146. Other batch sizes get their share of the rate. TensorFlow Datasets cannot fetch ImageNet: put its archives
where it says. The output folder holds best.weights.h5 and its record, which `--weights-backbone` of the ThunderNet
recipes takes, last/ (for --resume), metrics.json, labels.txt and logs/ (TensorBoard).
"""

import argparse
import hashlib
import logging
from pathlib import Path

import keras

from keras_lightdet import training
from keras_lightdet.backbones import SNet
from keras_lightdet.data import (
    ClassData,
    DecodeFailures,
    class_test_batches,
    class_train_batches,
    draw_class_folders,
    extract_imagenet,
    load_class_folders,
)
from keras_lightdet.evaluation import EvaluateClassifier
from keras_lightdet.weights import SUFFIX, load_weights

VARIANTS = ("snet146", "snet49", "snet535")
STEPS, BATCH_SIZE, IMAGE_SIZE = 300_000, 512, 224
RATE, MOMENTUM, DECAY, SMOOTHING = 0.5, 0.9, 4e-5, 0.1
DEMO = {"epochs": 20, "batch_size": 32, "image_size": 64, "train": 200, "val": 40}


def parse_args(argv=None) -> argparse.Namespace:
    """Reads the flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="folders of classes; without it TensorFlow Datasets' ImageNet")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/snet_imagenet"), help="default: %(default)s")
    parser.add_argument("--variant", choices=VARIANTS, default=VARIANTS[0], help="default: %(default)s")
    parser.add_argument("--epochs", type=int, help=f"default: as many as make {STEPS} steps")
    parser.add_argument("--batch-size", type=int, help=f"default: {BATCH_SIZE}")
    parser.add_argument("--image-size", type=int, help=f"side of the network input in pixels; default: {IMAGE_SIZE}")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --output-dir")
    parser.add_argument("--demo", action="store_true", help="train on drawn objects: no data, no network, some minutes")
    parser.add_argument(
        "--seed", type=int, default=0, help="of weights, shuffle and augmentation; default: %(default)s"
    )
    args = parser.parse_args(argv)
    if args.demo and args.data_dir:
        parser.error("--demo draws its own data: leave out --data-dir.")
    defaults = DEMO if args.demo else {"batch_size": BATCH_SIZE, "image_size": IMAGE_SIZE}
    args.epochs = args.epochs or defaults.get("epochs")
    args.batch_size = args.batch_size or defaults["batch_size"]
    args.image_size = args.image_size or defaults["image_size"]
    return args


def main(args) -> None:
    """Trains, and tells the score of the best weights."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    training.make_reproducible(args.seed)
    train, test = load(args)
    steps_per_epoch = -(-len(train) // args.batch_size)
    args.epochs = args.epochs or -(-STEPS // steps_per_epoch)
    print(f"{len(train)} pictures to train on, {len(test)} to score on, {len(train.class_names)} classes")
    size = args.image_size
    model = SNet((size, size, 3), variant=args.variant, num_classes=len(train.class_names))
    model.class_names = train.class_names
    compile_model(model, RATE * args.batch_size / BATCH_SIZE, steps_per_epoch * args.epochs)
    best_path = args.output_dir / f"best{SUFFIX}"
    fit(model, args, train, test, steps_per_epoch, best_path)
    load_weights(model, best_path)
    figures = model.evaluate(class_test_batches(test, size, args.batch_size), verbose=0, return_dict=True)
    print(f"best weights {best_path}: top-1 error {100 * (1 - figures['accuracy']):.1f} %")


def load(args) -> tuple[ClassData, ClassData]:
    """Returns what to train on and what to score on."""
    folder = args.data_dir
    if args.demo:
        splits = {split: DEMO[split] for split in ("train", "val")}
        folder = draw_class_folders(args.output_dir / "objects", splits, seed=args.seed)
    return load_class_folders(folder or extract_imagenet(args.output_dir.parent / "data"))


def compile_model(model: keras.Model, rate: float, steps: int) -> None:
    """Compiles for the authors' schedule, over as many steps as the run has."""
    schedule = keras.optimizers.schedules.PolynomialDecay(rate, steps, end_learning_rate=0.0)
    # Keras takes the decay off the weights, the authors put it into the gradients, where momentum sums it up.
    optimizer = keras.optimizers.SGD(schedule, momentum=MOMENTUM, weight_decay=DECAY / (1 - MOMENTUM))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=SMOOTHING)
    top5 = keras.metrics.TopKCategoricalAccuracy(5, name="top5_accuracy")
    model.compile(optimizer, loss=loss, metrics=[keras.metrics.CategoricalAccuracy(name="accuracy"), top5])


def fit(model: keras.Model, args, train: ClassData, test: ClassData, steps_per_epoch: int, best_path: Path) -> None:
    """Trains, or goes on with it."""
    folder, size, failures = args.output_dir, args.image_size, DecodeFailures()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.txt").write_text("\n".join(train.class_names) + "\n", encoding="utf-8")
    scores = EvaluateClassifier(class_test_batches(test, size, args.batch_size, failures=failures), best_path=best_path)
    log = training.RunLog(folder / "metrics.json", best=scores.monitor)
    config = {key: getattr(args, key) for key in ("variant", "epochs", "batch_size", "image_size", "seed")}
    config |= {"classes": list(train.class_names), "data": fingerprint(train)}
    checkpoint = training.TrainingCheckpoint(folder / "last", stateful=(scores, log), run_config=config)
    training.fit_resumable(
        model,
        lambda step: class_train_batches(
            train, size, args.batch_size, seed=args.seed, start_step=step, failures=failures
        ),
        epochs=args.epochs,
        steps_per_epoch=steps_per_epoch,
        checkpoint=checkpoint,
        callbacks=[
            training.RaiseOnNonFinite(),
            scores,
            log,
            training.ProgressLines(),
            keras.callbacks.TensorBoard(folder / "logs", write_graph=False),
        ],
        resume=args.resume,
    )


def fingerprint(data: ClassData) -> str:
    """Returns a hash of the pictures' names and labels, wherever the folder stands."""
    digest = hashlib.sha256()
    for record in data.records:
        digest.update(f"{Path(record.path).name} {record.label}\n".encode())
    return digest.hexdigest()


if __name__ == "__main__":
    main(parse_args())
