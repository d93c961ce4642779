"""Export a trained model to a verified .tflite file.

    lightdet export --weights out/best.weights.h5 --quantize int8 --data-dir my_data --output detector.tflite

The file is compared with the Keras model before it is written; a file that differs is not kept.
Detectors and segmenters are recognized by the record of the weights.
"""

import argparse
import dataclasses
from pathlib import Path

from keras_lightdet.cli.arguments import (
    ACTIVATIONS,
    POSTPROCESS_FORMS,
    QUANTIZE_MODES,
    WEIGHTS_HELP,
    add_data_arguments,
    add_import_argument,
    positive_int,
)
from keras_lightdet.files import expand_user


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--weights", type=expand_user, required=True, metavar="FILE", help=WEIGHTS_HELP)
    add_import_argument(parser)
    add_data_arguments(parser, required=True, purpose="data set whose images calibrate int8 and are compared")
    parser.add_argument("--output", type=expand_user, required=True, metavar="FILE", help="the .tflite file to write")
    parser.add_argument("--quantize", default="int8", choices=QUANTIZE_MODES, help="number format (default: int8)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice of images (default: 0)")
    detectors = parser.add_argument_group("detectors")
    detectors.add_argument(
        "--postprocess",
        default="builtin",
        choices=POSTPROCESS_FORMS,
        help="form of decoding and NMS (default: builtin)",
    )
    detectors.add_argument(
        "--score-threshold", type=float, metavar="SCORE", help="lowest score of a detection (default: the model's)"
    )
    detectors.add_argument(
        "--max-detections", type=positive_int, metavar="N", help="most detections in an image (default: the model's)"
    )
    segmenters = parser.add_argument_group("segmenters")
    segmenters.add_argument(
        "--activation", default="softmax", choices=ACTIVATIONS, help="activation of the masks (default: softmax)"
    )
    segmenters.add_argument(
        "--output-size", type=positive_int, nargs=2, metavar=("H", "W"), help="size of the masks (default: the input's)"
    )


def run(
    *,
    weights: Path,
    data_dir: Path,
    format: str,
    output: Path,
    quantize: str,
    seed: int,
    postprocess: str,
    score_threshold: float | None,
    max_detections: int | None,
    activation: str,
    output_size: tuple[int, int] | None,
) -> int:
    """Exports the model and prints a report."""
    from keras_lightdet.cli.loading import load_detection_split, load_segmentation_split, load_weights, sample_images
    from keras_lightdet.deploy import ExportReport, SegmenterReport, export_detection, export_segmentation
    from keras_lightdet.deploy.writing import CALIBRATION_IMAGES
    from keras_lightdet.segmentation import SegmentationModel

    model = load_weights(weights)
    report: ExportReport | SegmenterReport
    if isinstance(model, SegmentationModel):
        label_data = load_segmentation_split(data_dir, model.class_names, evaluation=False)
        report = export_segmentation(
            model,
            output,
            quantize=quantize,
            activation=activation,
            output_size=output_size,
            calibration=sample_images(label_data, CALIBRATION_IMAGES, seed),
        )
        print(f"pixels with the same class as in Keras: {report.same_pixels:.2%}")
    else:
        box_data = load_detection_split(data_dir, format, model.class_names, evaluation=False)
        select = model.select
        if score_threshold is not None:
            select = dataclasses.replace(select, score_threshold=score_threshold)
        if max_detections is not None:
            select = dataclasses.replace(select, max_detections=max_detections)
        report = export_detection(
            model,
            output,
            quantize=quantize,
            postprocess=postprocess,
            calibration=sample_images(box_data, CALIBRATION_IMAGES, seed),
            select=select,
        )
        if postprocess != "none":
            print(f"detections compared: {report.num_detections}, the same in Keras: {report.keras_agreement:.1%}")
    print(f"{report.path}: {report.num_bytes / 1e6:.2f} MB, {quantize}")
    print(f"classes: {', '.join(model.class_names)}")
    print(f"XNNPACK partitions: {report.partitions}; ops: {report.ops}")
    for name, error in report.raw_errors.items():
        print(f"{name}: error {error:.2g} of its standard deviation")
    return 0
