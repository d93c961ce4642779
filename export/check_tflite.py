"""Check an exported .tflite: its ops, its score beside Keras', and its answers in the real MediaPipe runtime.

    python export/check_tflite.py m.tflite --data-dir my_data --weights out/best.weights.h5

Ends with status 1 if the file has ops that phones lack, scores lower than Keras by more than --max-drop, or answers
otherwise in MediaPipe (another label, or a corner off by more than 2 pixels; of a segmenter, in more than 1 % of the
pixels another class than the file or Keras gives, 3 % beside Keras if the file is int8).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from detector_files import load_detector, load_split
from segmenter_check import check_segmenter, is_segmenter

from keras_lightdet.data.detection.records import DetectionData
from keras_lightdet.deploy import TFLiteDetector
from keras_lightdet.deploy.flatbuffer import read_content
from keras_lightdet.deploy.mediapipe_check import (
    BOX_TOLERANCE,
    compare_detections,
    detect_with_mediapipe,
    in_whole_pixels,
)
from keras_lightdet.deploy.postprocess import CUSTOM_OP
from keras_lightdet.deploy.verify import count_partitions, list_ops, check_allowed_ops
from keras_lightdet.detection.detections import SHOWN_SCORE, Detections
from keras_lightdet.errors import LightdetError
from keras_lightdet.evaluation import class_table, evaluate_coco, evaluate_voc, predict_detection
from keras_lightdet.images import read_image, resize_image

BATCH_SIZE = 8
MEDIAPIPE_IMAGES = 8


def main(args: argparse.Namespace) -> list[str]:
    """Prints all figures; returns what is wrong with the file."""
    content = read_content(args.tflite)
    ops = list_ops(content)
    print(f"{args.tflite}: {len(content) / 1e6:.2f} MB, {sum(ops.values())} ops", end=", ")
    print(f"{count_partitions(content)} XNNPACK partitions")
    print("  ".join(f"{name} {count}" for name, count in ops.items()))
    check_allowed_ops(content, custom_ops=[CUSTOM_OP] if CUSTOM_OP in ops else ())
    if is_segmenter(content):
        return check_segmenter(args, int8="QUANTIZE" in ops)
    detector = TFLiteDetector(args.tflite)
    print(f"classes: {', '.join(detector.class_names)}")
    faults = []
    if args.data_dir:
        data = load_split(args.data_dir, args.format, detector.class_names, test=True)
        faults += compare_scores(detector, data, args)
        if not args.no_mediapipe:
            faults += compare_with_mediapipe(args.tflite, detector, data)
    return faults


def compare_scores(detector: TFLiteDetector, data: DetectionData, args: argparse.Namespace) -> list[str]:
    """Scores the file, and Keras beside it where weights are given."""
    own = [detector.detect(record.path, score_threshold=0.0) for record in data.records]
    print(f"\n{len(own)} images of {args.data_dir}:\n{class_table(evaluate_voc(data, own))}")
    tables = {"tflite": figures(data, own)}
    if args.weights:
        tables["keras"] = figures(data, predict_detection(load_detector(args.weights), data, BATCH_SIZE))
    print(f"\n{'':12}" + "".join(f"{name:>10}" for name in tables))
    for rule in tables["tflite"]:
        print(f"{rule:12}" + "".join(f"{100 * table[rule]:10.2f}" for table in tables.values()))
    if "keras" not in tables:
        return []
    drops = {rule: 100 * (tables["keras"][rule] - tables["tflite"][rule]) for rule in ("VOC07 mAP", "COCO AP50")}
    return [
        f"{rule} is {drop:.2f} points below Keras' (at most {args.max_drop})"
        for rule, drop in drops.items()
        if drop > args.max_drop
    ]


def figures(data: DetectionData, found: Sequence[Detections]) -> dict[str, float]:
    """Returns the scores by name, 0..1."""
    coco = evaluate_coco(data, found).figures()
    return {
        "VOC07 mAP": evaluate_voc(data, found).figures()["mAP"],
        "VOC12 mAP": evaluate_voc(data, found, metric="area").figures()["mAP"],
        **{f"COCO {name}": coco[name] for name in ("AP", "AP50", "AP75")},
    }


def compare_with_mediapipe(path: Path, detector: TFLiteDetector, data: DetectionData) -> list[str]:
    """Runs some images in MediaPipe's ObjectDetector and looks for the file's own detections there.

    Images of the network's size show the file itself, those as they are show besides that both resize alike.
    """
    chosen = np.linspace(0, len(data) - 1, min(MEDIAPIPE_IMAGES, len(data))).astype(int)
    originals = [read_image(data.records[index].path) for index in chosen]
    resized = [resize_image(image, detector.input_size) for image in originals]
    faults = []
    for kind, images in (("at the network's size", resized), ("as they are", originals)):
        found = [
            # Below that score, what a small change of the pixels moves is nothing a client shows.
            compare_detections(in_whole_pixels(detector.detect(image, SHOWN_SCORE)), answer)
            for image, answer in zip(images, detect_with_mediapipe(path, images), strict=True)
        ]
        compared, missing = sum(one.compared for one in found), sum(one.missing for one in found)
        distance = max((one.max_distance for one in found), default=0.0)
        print(f"MediaPipe, images {kind}: {compared - missing} of {compared} detections alike", end=", ")
        print(f"corners within {distance:.2f} px")
        if missing and images is resized:
            faults.append(f"MediaPipe lacks {missing} of {compared} detections, or is over {BOX_TOLERANCE} px off")
    return faults


def parse_args() -> argparse.Namespace:
    """Reads the flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tflite", type=Path)
    parser.add_argument("--data-dir", type=Path, help="data set whose test split is scored")
    parser.add_argument("--format", default="auto", choices=("auto", "voc", "coco"), help="of the data set")
    parser.add_argument("--weights", type=Path, help="best.weights.h5 that the file was made from: scored beside it")
    parser.add_argument(
        "--max-drop", type=float, default=2.0, help="points that the file may lose (default: %(default)s)"
    )
    parser.add_argument("--no-mediapipe", action="store_true", help="leave MediaPipe out")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        FAULTS = main(parse_args())
    except LightdetError as error:
        sys.exit(f"error: {error}")
    sys.exit("\n".join(f"FAULT: {fault}" for fault in FAULTS) or 0)
