"""Exports a trained segmenter to a verified .tflite file in the form that MediaPipe's ImageSegmenter takes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_lightdet.deploy import segments, verify
from keras_lightdet.deploy.calibration import IMAGES, Sample
from keras_lightdet.deploy.metadata import add_segmenter_metadata
from keras_lightdet.deploy.runtime import MASKS, TFLiteGraph
from keras_lightdet.deploy.writing import FileReport, prepare_calibration, verified_file
from keras_lightdet.errors import ExportError
from keras_lightdet.files import StrPath, expand_user
from keras_lightdet.inference_stage import InferenceStage
from keras_lightdet.layers import resize_maps
from keras_lightdet.segmentation import SegmentationModel
from keras_lightdet.segmentation.model import MAIN
from keras_lightdet.types import Size, Tensors

ACTIVATIONS = ("softmax", "none")
_MERGE_TOLERANCE = 1e-4


@dataclass(frozen=True)
class SegmenterReport(FileReport):
    """The written file and how it compares with the Keras model.

    Attributes:
        same_pixels: Fraction of the compared images' pixels to which file and model give the same class.
    """

    same_pixels: float


def export_segmentation(
    model: SegmentationModel,
    path: StrPath,
    *,
    quantize: str = "none",
    activation: str = "softmax",
    output_size: Size | None = None,
    calibration: Iterable[np.ndarray],
) -> SegmenterReport:
    """Exports a segmenter, compares the file with the model, and writes it only if they agree.

    The file takes one raw uint8 RGB image `[1, H, W, 3]` named "images" and gives float32 "masks"
    `[1, *output_size, K]`. Resizing of the masks and softmax are float32 for every value of `quantize`.

    Args:
        model: A segmenter of float32 policy.
        path: Path of the file. An existing file is replaced atomically, or kept if the export fails.
        quantize: "none", "float16", "dynamic" (int8 weights) or "int8".
        activation: "softmax" gives probabilities; "none" gives logits, and the metadata ask clients to apply softmax.
        output_size: `(height, width)` of the masks; None = the network's input size. The size of the network's own
            output, such as an eighth of the input, leaves the resizing to the client.
        calibration: Uint8 RGB images of any size, like those the segmenter will see: int8 is calibrated on the first
            100, and eight of them are compared.

    Raises:
        ExportError: The file differs from the model or has an op outside the allow-list, or an argument is invalid.
    """
    if activation not in ACTIVATIONS:
        raise ExportError(f"Expected activation to be one of {ACTIVATIONS}, got {activation!r}. Choose one of them.")
    samples: Sequence[Sample] = [{IMAGES: image[None]} for image in prepare_calibration(model, calibration)]
    (network_stage,) = model.inference_stages()
    mask_stage = _mask_stage(output_size or model.input_size, activation)
    network = segments.convert_stage(network_stage, samples, quantize)
    raw_errors = segments.compare_with_keras(network, samples, verify.TOLERANCES[quantize])
    samples = segments.run_and_append(segments.comparison_samples(samples), network_stage, {IMAGES, MAIN})
    converted = [network, segments.convert_stage(mask_stage, samples, "none")]
    samples = segments.run_and_append(samples, mask_stage, {IMAGES, MAIN, MASKS})
    content = add_segmenter_metadata(
        segments.merge(converted, [MASKS]), model.class_names, name=model.name, apply_softmax=activation == "none"
    )
    path = expand_user(path)
    with verified_file(path, content) as written:
        ops = verify.check_allowed_ops(written)
        images = [{IMAGES: sample[IMAGES]} for sample in samples]
        outputs = segments.check_merged(converted, TFLiteGraph(written), images, _MERGE_TOLERANCE)
        same_pixels = _same_pixels(samples, outputs)
    return SegmenterReport(str(path), len(content), ops, verify.count_partitions(content), raw_errors, same_pixels)


def _mask_stage(size: Size, activation: str) -> InferenceStage:
    """Returns the stage from logits to masks. It has no weights, so that it is never quantized."""

    def to_masks(inputs: Tensors) -> Tensors:
        masks = resize_maps(inputs[MAIN], tuple(size))
        return {MASKS: tf.nn.softmax(masks) if activation == "softmax" else tf.identity(masks)}

    return InferenceStage("masks", to_masks, (MAIN,), False)


def _same_pixels(expected: Sequence[Sample], outputs: Sequence[Sample]) -> float:
    pairs = zip(expected, outputs, strict=True)
    return float(np.mean([ours[MASKS].argmax(-1) == theirs[MASKS].argmax(-1) for ours, theirs in pairs]))
