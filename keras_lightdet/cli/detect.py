"""Detect objects in images, folders or videos; with a segmenter, label their pixels.

    lightdet detect photos/ --weights out/best.weights.h5
    lightdet detect a.jpg b.jpg --model detector.tflite --score-threshold 0.5
    lightdet detect street.mp4 --model segmenter.tflite --output-dir masks

Writes to --output-dir:
    images/               the images with boxes, or with classes in color; videos as <name>.mp4
    detections.json       of detectors: boxes (x_min, y_min, x_max, y_max in pixels), scores and classes of each image
    coco_results.json     of detectors: the same in COCO's results format
    masks/                of segmenters: the class index of each pixel as PNG, and labels.txt with the classes

image_id in the two JSON files is the number in the file's name where all names are different
numbers, as in COCO, else the position from 1. category_id is the class index plus 1.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from keras_lightdet.cli.arguments import SCORE_THRESHOLD, add_model_arguments, positive_int
from keras_lightdet.files import expand_user


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("inputs", type=expand_user, nargs="+", metavar="input", help="image, folder of images or video")
    add_model_arguments(parser)
    parser.add_argument(
        "--output-dir",
        type=expand_user,
        default=Path("detections"),
        metavar="FOLDER",
        help="folder of the results (default: %(default)s)",
    )
    parser.add_argument(
        "--score-threshold",
        type=float,
        default=SCORE_THRESHOLD,
        metavar="SCORE",
        help="lowest score that is drawn and written, 0..1 (default: %(default)s)",
    )
    parser.add_argument(
        "--frame-step", type=positive_int, default=1, metavar="N", help="take every Nth frame of videos (default: 1)"
    )


def run(
    *,
    inputs: Sequence[Path],
    weights: Path | None,
    model: Path | None,
    threads: int,
    output_dir: Path,
    score_threshold: float,
    frame_step: int,
) -> int:
    """Writes the results; returns 1 if an image could not be read."""
    from keras_lightdet.cli.annotate import annotate_images, annotate_video, make_annotator
    from keras_lightdet.cli.loading import load_tflite, load_weights
    from keras_lightdet.cli.media import VideoReader, find_inputs

    images, videos = find_inputs(inputs)
    readers = [VideoReader(video.path, frame_step) for video in videos]
    loaded = load_weights(weights) if weights is not None else load_tflite(cast(Path, model), threads)
    annotator = make_annotator(loaded, output_dir, score_threshold)
    num_failed = annotate_images(annotator, images, output_dir / "images")
    for video, reader in zip(videos, readers, strict=True):
        annotate_video(annotator, video, reader, output_dir / "images")
    annotator.finish()
    return 1 if num_failed else 0
