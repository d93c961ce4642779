"""What the recipes share: flags, a start from weights, the run itself, its scores, and the check of the file."""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_lightdet import evaluation, training
from keras_lightdet.errors import LightdetError
from keras_lightdet.images import read_image
from keras_lightdet.weights import load_trunk, load_weights, read_record

CALIBRATION_IMAGES = 100
GRID_IMAGES = 12
SHOWN_ISSUES = 5
CHECK = Path(__file__).parents[1] / "export" / "check_tflite.py"


@contextmanager
def report_errors() -> Iterator[None]:
    """Ends the process with the message alone where data, weights or a checkpoint are at fault: it names the cure."""
    try:
        yield
    except LightdetError as error:
        sys.exit(f"error: {error}")


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of how a run goes on, what it takes for its data, and what it leaves."""
    parser.add_argument("--resume", action="store_true", help="go on with the run in --output-dir")
    parser.add_argument("--demo", action="store_true", help="train on drawn scenes: no data, no network, some minutes")
    parser.add_argument(
        "--strict", action="store_true", help="stop at the first fault in the data instead of skipping it"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of weights, shuffle and augmentation; default: %(default)s"
    )
    parser.add_argument(
        "--export", action="store_true", help="write and check the int8 .tflite at the end (--demo does)"
    )


def add_weights_flags(parser: argparse.ArgumentParser, backbone: str | None) -> None:
    """Adds `--weights`, and `--weights-backbone` where the model is built on a `backbone` (its name, for people)."""
    parser.add_argument(
        "--weights", help="a .weights.h5 to start from; other classes keep all but the class predictions"
    )
    if backbone:
        parser.add_argument(
            "--weights-backbone", help=f"a .weights.h5 of a classifier {backbone} to start from, as the paper does"
        )


def check_exclusive_weights(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Ends with the flags' error where both kinds of weights are given."""
    if args.weights and getattr(args, "weights_backbone", None):
        parser.error("--weights has a backbone: leave out --weights-backbone.")


def start_from(model, weights: str | None, class_names: tuple[str, ...]) -> None:
    """Loads `--weights` if given, without the class predictions where the classes differ."""
    if not weights:
        return
    same = tuple(read_record(weights)["class_names"]) == class_names
    (load_weights if same else load_trunk)(model, weights)
    print(f"started from {weights}" + ("" if same else ", class predictions anew"))


def train_resumable(
    model: keras.Model,
    batches: Callable[[int], tf.data.Dataset],
    args: argparse.Namespace,
    *,
    steps_per_epoch: int,
    scores: evaluation.KeepBestWeights,
    guard: keras.callbacks.Callback,
    config: Mapping,
) -> None:
    """Trains a compiled model, or goes on with it, and leaves its best weights in it.

    Args:
        model: The model, with its `class_names`.
        batches: Makes the batches from a step of the run on.
        args: With `output_dir`, `epochs` and `resume`.
        steps_per_epoch: Batches of an epoch.
        scores: What keeps the best weights.
        guard: What halts a run whose loss is not finite.
        config: What must stay the same for a run to be resumed.
    """
    folder = args.output_dir
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.txt").write_text("\n".join(model.class_names) + "\n", encoding="utf-8")
    log = training.RunLog(folder / "metrics.json", best=scores.monitor)
    checkpoint = training.TrainingCheckpoint(folder / "last", stateful=(scores, log), run_config=config)
    board = keras.callbacks.TensorBoard(folder / "logs", write_graph=False)
    training.fit_resumable(
        model,
        batches,
        epochs=args.epochs,
        steps_per_epoch=steps_per_epoch,
        checkpoint=checkpoint,
        callbacks=[guard, scores, log, training.ProgressLines(), board],
        resume=args.resume,
    )
    load_weights(model, scores.best_path)


def report_scores(results: Mapping, folder: Path, best_path: Path) -> None:
    """Writes results by name to `scores.json`, and prints them and where everything is."""
    scores = {name: evaluation.result_as_data(result) for name, result in results.items()}
    (folder / "scores.json").write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    for name, result in results.items():
        print(f"\n{name}\n{evaluation.class_table(result)}")
    print(f"\nbest weights {best_path}, images {folder / 'predictions.png'}, scores {folder / 'scores.json'}")


def export_checked(model, export: Callable, path: Path, records: Sequence, weights: Path, *flags: str) -> None:
    """Writes the int8 .tflite and hands it to export/check_tflite.py, as a user would.

    Args:
        model: The model.
        export: `deploy.export_detection` or `deploy.export_segmentation`.
        path: Of the file.
        records: Whose images it is calibrated with.
        weights: What the file is compared with.
        *flags: More of the command's flags.
    """
    print(f"\nexporting {path}", flush=True)
    export(model, path, quantize="int8", calibration=_calibration_images(records))
    checked = subprocess.run([sys.executable, str(CHECK), str(path), "--weights", str(weights), *flags], check=False)
    if checked.returncode:
        sys.exit(checked.returncode)  # the command has said what is wrong with the file


def _calibration_images(records: Sequence):
    """Reads images spread over the records, one at a time."""
    chosen = np.linspace(0, len(records) - 1, min(CALIBRATION_IMAGES, len(records))).astype(int)
    return (read_image(records[index].path) for index in chosen)
