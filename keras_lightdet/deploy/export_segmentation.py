"""A trained segmenter to a checked .tflite file, in the form MediaPipe's ImageSegmenter takes."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_lightdet.deploy import convert, verify
from keras_lightdet.deploy.export_detection import CALIBRATION_IMAGES, put_in_place, require_float32
from keras_lightdet.deploy.metadata import add_segmenter_metadata
from keras_lightdet.deploy.runtime import MASKS, Graph
from keras_lightdet.deploy.segments import (
    compare_with_keras,
    compared,
    convert_part,
    extend,
    join,
    require_same_whole,
)
from keras_lightdet.errors import ExportError
from keras_lightdet.images import resize_image
from keras_lightdet.inference_stage import InferenceStage
from keras_lightdet.layers import resize_maps
from keras_lightdet.segmentation import SegmentationModel
from keras_lightdet.segmentation.model import MAIN

ACTIVATIONS = ("softmax", "none")
_JOIN_TOLERANCE = 1e-4


@dataclass(frozen=True)
class SegmenterReport:
    """What was written and how it compares with the Keras model.

    Attributes:
        path: The file.
        num_bytes: Its size.
        ops: How often each op occurs, by name.
        partitions: Pieces of the graph that XNNPACK, the CPU delegate, takes.
        raw_errors: Root mean square error of the logits, as a share of their standard deviation.
        same_pixels: Share of the compared images' pixels to which file and model give the same class.
    """

    path: str
    num_bytes: int
    ops: dict[str, int]
    partitions: int
    raw_errors: dict[str, float]
    same_pixels: float


def export_segmentation(
    model: SegmentationModel,
    path: str | Path,
    *,
    quantize: str = "none",
    activation: str = "softmax",
    output_size: tuple[int, int] | None = None,
    calibration: Iterable[np.ndarray],
) -> SegmenterReport:
    """Exports a segmenter, compares the file with the model, and only then puts it in its place.

    The file takes one raw uint8 RGB image `[1, H, W, 3]` named "images" and gives float32 "masks"
    `[1, *output_size, K]`. Enlarging and softmax stay float32 whatever `quantize` says.

    Args:
        model: A segmenter of float32 policy.
        path: Where the file goes. What stands there is replaced in one step, or kept if the export fails.
        quantize: "none", "float16", "dynamic" (int8 weights) or "int8".
        activation: "softmax" gives probabilities, "none" logits, which the metadata tell clients to activate.
        output_size: `(height, width)` of the masks; None takes the network input's. The network's own stride, such as
            an eighth of it, leaves the enlarging to the client.
        calibration: Uint8 RGB images of any size, like those the segmenter will see: the first 100 set int8's
            ranges, and eight of them are compared.

    Raises:
        ExportError: The file differs from the model or has an op outside the allow-list, or an argument does not fit.
    """
    if activation not in ACTIVATIONS:
        raise ExportError(f"Expected activation to be one of {ACTIVATIONS}, got {activation!r}. Do choose one.")
    require_float32(model)
    pictures = [resize_image(image, model.input_size) for image in islice(calibration, CALIBRATION_IMAGES)]
    if not pictures:
        raise ExportError("Expected images to compare the file with the model on, got none. Do pass some.")
    samples = [{convert.IMAGES: image[None]} for image in pictures]
    network, finish = *model.inference_stages(), _finishing(output_size or model.input_size, activation)
    part = convert_part(network, samples, quantize)
    errors = compare_with_keras(part, samples, verify.TOLERANCES[quantize])
    samples = compared(samples)
    samples = extend(samples, network, {convert.IMAGES, MAIN})
    parts = [part, convert_part(finish, samples, "none")]
    samples = extend(samples, finish, {convert.IMAGES, MAIN, MASKS})
    whole = join(parts, [MASKS])
    whole = add_segmenter_metadata(whole, model.class_names, name=model.name, softmax_left=activation == "none")

    def check(written: bytes) -> tuple[dict[str, int], float]:
        ops = verify.require_allowed_ops(written)
        given = [{convert.IMAGES: sample[convert.IMAGES]} for sample in samples]
        answers = require_same_whole(parts, Graph(written), given, _JOIN_TOLERANCE)
        return ops, _same_pixels(samples, answers)

    ops, same = put_in_place(Path(path), whole, check)
    return SegmenterReport(str(path), len(whole), ops, verify.count_partitions(whole), errors, same)


def _finishing(size: tuple[int, int], activation: str) -> InferenceStage:
    """What comes behind the network: without weights, so that no quantizer touches it."""

    def finish(given: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        masks = resize_maps(given[MAIN], tuple(size))
        return {MASKS: tf.nn.softmax(masks) if activation == "softmax" else tf.identity(masks)}

    return InferenceStage("masks", finish, (MAIN,), False)


def _same_pixels(expected: list[dict], got: list[dict]) -> float:
    pairs = zip(expected, got, strict=True)
    return float(np.mean([one[MASKS].argmax(-1) == other[MASKS].argmax(-1) for one, other in pairs]))
