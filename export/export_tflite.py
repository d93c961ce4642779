"""Export a trained detector to a .tflite that phones run, and refuse it if it differs from the Keras model.

python export/export_tflite.py --weights out/best.weights.h5 --quantize int8 --data-dir my_data --output m.tflite
"""

import argparse
import dataclasses
import logging
import sys
from pathlib import Path

from detector_files import draw_pictures, load_detector, load_split

from keras_lightdet.deploy import export_tflite
from keras_lightdet.deploy.convert import QUANTIZE_MODES
from keras_lightdet.deploy.export import CALIBRATION_PICTURES
from keras_lightdet.deploy.postprocess import POSTPROCESS_FORMS
from keras_lightdet.errors import LightdetError


def main(args: argparse.Namespace) -> None:
    """Exports and prints what was written."""
    model = load_detector(args.weights)
    data = load_split(args.data_dir, args.format, model.class_names, test=False)
    changes = {"score_threshold": args.score_threshold, "max_detections": args.max_detections}
    select = dataclasses.replace(model.select, **{k: v for k, v in changes.items() if v is not None})
    report = export_tflite(
        model,
        args.output,
        quantize=args.quantize,
        postprocess=args.postprocess,
        calibration=draw_pictures(data, CALIBRATION_PICTURES, args.seed),
        select=select,
    )
    print(f"{report.path}: {report.num_bytes / 1e6:.2f} MB, {args.quantize}, post-processing {args.postprocess}")
    print(f"classes: {', '.join(model.class_names)}")
    print(f"XNNPACK partitions: {report.partitions}; ops: {report.ops}")
    for name, error in report.raw_errors.items():
        print(f"{name}: error {error:.2g} of its standard deviation")
    if args.postprocess != "none":
        print(f"detections compared: {report.num_detections}, alike in Keras: {report.keras_agreement:.1%}")


def parse_args() -> argparse.Namespace:
    """Reads the flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="best.weights.h5, with its record beside it")
    parser.add_argument(
        "--data-dir", type=Path, required=True, help="data set: pictures for calibration and comparison"
    )
    parser.add_argument("--format", default="auto", choices=("auto", "voc", "coco"), help="of the data set")
    parser.add_argument("--output", type=Path, required=True, help="the .tflite to write")
    parser.add_argument("--quantize", default="int8", choices=QUANTIZE_MODES)
    parser.add_argument("--postprocess", default="builtin", choices=POSTPROCESS_FORMS)
    parser.add_argument("--score-threshold", type=float, help="lowest score to bake in (default: the model's)")
    parser.add_argument("--max-detections", type=int, help="most detections a picture (default: the model's)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of pictures")
    return parser.parse_args()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    try:
        main(parse_args())
    except LightdetError as error:
        sys.exit(f"error: {error}")
