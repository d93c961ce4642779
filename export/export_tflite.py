"""Export a trained model to a .tflite that phones run, and refuse it if it differs from the Keras model.

python export/export_tflite.py --weights out/best.weights.h5 --quantize int8 --data-dir my_data --output m.tflite
"""

import argparse
import dataclasses
import logging
import sys
from pathlib import Path

from detector_files import draw_images, load_detector, load_label_split, load_split

from keras_lightdet.deploy import export_detection, export_segmentation
from keras_lightdet.deploy.export_detection import CALIBRATION_IMAGES
from keras_lightdet.deploy.export_segmentation import ACTIVATIONS
from keras_lightdet.deploy.postprocess import POSTPROCESS_FORMS
from keras_lightdet.deploy.tflite_convert import QUANTIZE_MODES
from keras_lightdet.errors import LightdetError
from keras_lightdet.segmentation import SegmentationModel


def main(args: argparse.Namespace) -> None:
    """Exports and prints what was written."""
    model = load_detector(args.weights)
    report = (write_segmenter if isinstance(model, SegmentationModel) else write_detector)(model, args)
    print(f"{report.path}: {report.num_bytes / 1e6:.2f} MB, {args.quantize}")
    print(f"classes: {', '.join(model.class_names)}")
    print(f"XNNPACK partitions: {report.partitions}; ops: {report.ops}")
    for name, error in report.raw_errors.items():
        print(f"{name}: error {error:.2g} of its standard deviation")


def write_segmenter(model, args: argparse.Namespace):
    """Exports a segmenter."""
    data = load_label_split(args.data_dir, model.class_names, test=False)
    report = export_segmentation(
        model,
        args.output,
        quantize=args.quantize,
        activation=args.activation,
        output_size=args.output_size and tuple(args.output_size),
        calibration=draw_images(data, CALIBRATION_IMAGES, args.seed),
    )
    print(f"pixels of the class that Keras gives: {report.same_pixels:.2%}")
    return report


def write_detector(model, args: argparse.Namespace):
    """Exports a detector."""
    data = load_split(args.data_dir, args.format, model.class_names, test=False)
    changes = {"score_threshold": args.score_threshold, "max_detections": args.max_detections}
    select = dataclasses.replace(model.select, **{k: v for k, v in changes.items() if v is not None})
    report = export_detection(
        model,
        args.output,
        quantize=args.quantize,
        postprocess=args.postprocess,
        calibration=draw_images(data, CALIBRATION_IMAGES, args.seed),
        select=select,
    )
    if args.postprocess != "none":
        print(f"detections compared: {report.num_detections}, alike in Keras: {report.keras_agreement:.1%}")
    return report


def parse_args() -> argparse.Namespace:
    """Reads the flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="best.weights.h5, with its record beside it")
    parser.add_argument("--data-dir", type=Path, required=True, help="data set: images for calibration and comparison")
    parser.add_argument("--format", default="auto", choices=("auto", "voc", "coco"), help="of the data set")
    parser.add_argument("--output", type=Path, required=True, help="the .tflite to write")
    parser.add_argument("--quantize", default="int8", choices=QUANTIZE_MODES)
    parser.add_argument("--postprocess", default="builtin", choices=POSTPROCESS_FORMS)
    parser.add_argument("--activation", default="softmax", choices=ACTIVATIONS, help="of a segmenter's masks")
    parser.add_argument(
        "--output-size", type=int, nargs=2, metavar=("H", "W"), help="of a segmenter's masks (default: the input's)"
    )
    parser.add_argument("--score-threshold", type=float, help="lowest score to bake in (default: the model's)")
    parser.add_argument("--max-detections", type=int, help="most detections an image (default: the model's)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of images")
    return parser.parse_args()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    try:
        main(parse_args())
    except LightdetError as error:
        sys.exit(f"error: {error}")
