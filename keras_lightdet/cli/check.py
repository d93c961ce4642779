"""Check a .tflite file against Keras and the real MediaPipe runtime.

    lightdet check detector.tflite --data-dir my_data --weights out/best.weights.h5

The exit code is 1, and each difference is listed on stderr, if the file has ops that phones lack,
scores lower than Keras by more than --max-drop, or gives other results in MediaPipe: of a detector,
another label or a corner off by more than 2 pixels; of a segmenter, another class than the file or
Keras in more than 1 % of the pixels (3 % compared with Keras if the file is int8).
"""

import argparse
import sys
from pathlib import Path

from keras_lightdet.cli.arguments import add_data_arguments, add_import_argument
from keras_lightdet.files import expand_user


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("tflite", type=expand_user, help="the .tflite file")
    add_data_arguments(parser, required=False, purpose="data set whose test split is evaluated")
    parser.add_argument(
        "--weights",
        type=expand_user,
        metavar="FILE",
        help="the .weights.h5 the file was made from, evaluated beside it",
    )
    add_import_argument(parser)
    parser.add_argument(
        "--max-drop",
        type=float,
        default=2.0,
        metavar="POINTS",
        help="points of average precision or mIoU that the file may lose (default: %(default)s)",
    )
    parser.add_argument("--no-mediapipe", action="store_true", help="do not run MediaPipe")


def run(
    *, tflite: Path, data_dir: Path | None, format: str, weights: Path | None, max_drop: float, no_mediapipe: bool
) -> int:
    """Prints all figures, and the differences on stderr."""
    from keras_lightdet.cli.comparison import check_detector, check_segmenter
    from keras_lightdet.cli.loading import load_tflite
    from keras_lightdet.deploy import TFLiteSegmenter
    from keras_lightdet.deploy.flatbuffer import read_content
    from keras_lightdet.deploy.postprocess import CUSTOM_OP
    from keras_lightdet.deploy.verify import check_allowed_ops, count_partitions, list_ops

    content = read_content(tflite)
    ops = list_ops(content)
    print(f"{tflite}: {len(content) / 1e6:.2f} MB, {sum(ops.values())} ops", end=", ")
    print(f"{count_partitions(content)} XNNPACK partitions")
    print("  ".join(f"{name} {count}" for name, count in ops.items()))
    check_allowed_ops(content, custom_ops=[CUSTOM_OP] if CUSTOM_OP in ops else ())
    model = load_tflite(tflite)
    print(f"classes: {', '.join(model.class_names)}")
    if data_dir is None:
        return 0
    mediapipe_path = None if no_mediapipe else tflite
    if isinstance(model, TFLiteSegmenter):
        faults = check_segmenter(model, data_dir, weights, max_drop, mediapipe_path, int8="QUANTIZE" in ops)
    else:
        faults = check_detector(model, data_dir, format, weights, max_drop, mediapipe_path)
    if faults:
        print("\n".join(f"FAULT: {fault}" for fault in faults), file=sys.stderr)
    return 1 if faults else 0
