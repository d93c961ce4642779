"""Evaluate a trained model or a .tflite file on a data set with labels.

    lightdet evaluate --weights out/best.weights.h5 --data-dir my_data
    lightdet evaluate --model detector.tflite --data-dir my_data --split val --output scores.json

Detectors: average precision by the rules of PASCAL VOC 2007, of later VOC challenges and of COCO.
Segmenters: mIoU and accuracy. Classifiers: accuracy, on a folder of images for each class. Without
--split, the split that recipes evaluate on is used.
"""

import argparse
import json
from pathlib import Path
from typing import cast

from keras_lightdet.cli.arguments import BATCH_SIZE, add_data_arguments, add_model_arguments, positive_int
from keras_lightdet.files import atomic_write, expand_user


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_model_arguments(parser)
    add_data_arguments(parser, required=True, purpose="data set with labels")
    parser.add_argument("--split", help="split to evaluate on (default: the evaluation split)")
    parser.add_argument(
        "--batch-size",
        type=positive_int,
        default=BATCH_SIZE,
        metavar="N",
        help="images per batch (default: %(default)s)",
    )
    parser.add_argument("--output", type=expand_user, metavar="FILE", help="also write the scores to this JSON file")


def run(
    *,
    weights: Path | None,
    model: Path | None,
    threads: int,
    data_dir: Path,
    format: str,
    split: str | None,
    batch_size: int,
    output: Path | None,
) -> int:
    """Prints the scores and writes them to `output`."""
    from keras_lightdet.cli.inference import evaluate_model
    from keras_lightdet.cli.loading import load_tflite
    from keras_lightdet.evaluation import class_table, result_as_data
    from keras_lightdet.models.registry import load_model

    loaded = load_model(weights) if weights is not None else load_tflite(cast(Path, model), threads)
    num_images, results = evaluate_model(loaded, data_dir, format, split, batch_size)
    print(f"{num_images} images of {data_dir}")
    for name, result in results.items():
        print(f"\n{name}\n{class_table(result)}")
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        scores = {name: result_as_data(result) for name, result in results.items()}
        atomic_write(output, json.dumps(scores, indent=1) + "\n")
        print(f"\nscores {output}")
    return 0
