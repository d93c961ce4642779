"""Exports a trained detector to a verified .tflite file."""

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from keras_lightdet.base_model import BaseModel
from keras_lightdet.boxes.nms import SelectSpec
from keras_lightdet.deploy import flatbuffer, verify
from keras_lightdet.deploy.calibration import IMAGES, Sample
from keras_lightdet.deploy.metadata import add_metadata, pack_labels
from keras_lightdet.deploy.postprocess import CUSTOM_OP, OUTPUTS, POSTPROCESS_FORMS, build_postprocess
from keras_lightdet.deploy.runtime import Outputs, TFLiteGraph, to_detections
from keras_lightdet.deploy.segments import (
    COMPARISON_SAMPLES,
    GraphSegment,
    check_merged,
    check_same_rows,
    compare_with_keras,
    comparison_samples,
    convert_stage,
    merge,
    run_and_append,
)
from keras_lightdet.detection.detections import Detections
from keras_lightdet.detection.model import DetectorModel
from keras_lightdet.errors import ExportError
from keras_lightdet.files import StrPath, expand_user, write_durably
from keras_lightdet.images import resize_image
from keras_lightdet.inference_stage import InferenceStage

CALIBRATION_IMAGES = 100  # more changed nothing measurable
MAX_SAMPLE_BYTES = 1e9

Verified = TypeVar("Verified")

_MERGE_TOLERANCE = 1e-5
_IMAGE_SIZE = (1000, 1000)  # overlaps do not depend on it, but `pairwise_iou` expects pixels
_AGREEMENT_IOU, _AGREEMENT_SCORE = 0.5, 0.1


@dataclass(frozen=True)
class ExportReport:
    """The written file and how it compares with the Keras model.

    Attributes:
        path: The file.
        num_bytes: Its size.
        ops: Number of operators by name.
        partitions: Number of subgraphs that XNNPACK, the CPU delegate, takes.
        raw_errors: Root mean square error of each raw output, as a fraction of its standard deviation.
        num_detections: Detections in the compared images; 0 if the file gives raw outputs.
        keras_agreement: Fraction of detections on which model and file agree (same label, IoU of at least 0.5, scores
            within 0.1): the effect of quantization.
    """

    path: str
    num_bytes: int
    ops: dict[str, int]
    partitions: int
    raw_errors: dict[str, float]
    num_detections: int
    keras_agreement: float


def export_detection(
    model: DetectorModel,
    path: StrPath,
    *,
    quantize: str = "none",
    postprocess: str = "builtin",
    calibration: Iterable[np.ndarray],
    select: SelectSpec | None = None,
) -> ExportReport:
    """Exports a detector, compares the file with the model, and writes it only if they agree.

    The file takes one raw uint8 RGB image `[1, H, W, 3]` named "images" and gives float32 outputs: "boxes"
    `[1, D, 4]` (relative y_min, x_min, y_max, x_max), "labels" `[1, D]`, "scores" `[1, D]` and "count" `[1]`.

    Args:
        model: A detector of float32 policy.
        path: Path of the file. An existing file is replaced atomically, or kept if the export fails.
        quantize: "none", "float16", "dynamic" (int8 weights) or "int8"; decoding and NMS always stay float32.
        postprocess: "builtin" (built-in ops only), "custom_op" (TFLite_Detection_PostProcess) or "none" (raw outputs).
        calibration: Uint8 RGB images of any size, like those the detector will see: int8 is calibrated on the first
            100, and eight of them are compared.
        select: Thresholds and counts to bake in; None = the model's own.

    Raises:
        ExportError: The file differs from the model or has an op outside the allow-list, or an argument is invalid.
    """
    if postprocess not in POSTPROCESS_FORMS:
        raise ExportError(
            f"Expected postprocess to be one of {POSTPROCESS_FORMS}, got {postprocess!r}. Choose one of them."
        )
    images = prepare_calibration(model, calibration)
    stages = model.inference_stages()
    raw_names = tuple(model(images[0][None], training=False))
    custom_ops = (CUSTOM_OP,) if postprocess == "custom_op" else ()
    if postprocess != "none":
        function = build_postprocess(model, postprocess, select)
        stages.append(InferenceStage("post-processing", function, raw_names, False))
    converted = _convert_stages(stages, raw_names, images, quantize, custom_ops)
    if postprocess == "none":
        content = pack_labels(merge(converted.segments, raw_names), model.class_names)
    else:
        content = add_metadata(merge(converted.segments, OUTPUTS), model.class_names, name=model.name)
    return _write_verified(expand_user(path), converted, content, custom_ops)


@dataclass(frozen=True)
class _ConvertedStages:
    """The converted stages of a detector.

    Attributes:
        segments: In the order in which they run.
        raw_errors: See `ExportReport.raw_errors`.
        samples: The compared images, with the outputs of all stages in Keras.
    """

    segments: list[GraphSegment]
    raw_errors: dict[str, float]
    samples: Sequence[Sample]


def _convert_stages(
    stages: Sequence[InferenceStage],
    raw_names: Collection[str],
    images: Sequence[np.ndarray],
    quantize: str,
    custom_ops: Collection[str],
) -> _ConvertedStages:
    """Converts the stages one by one; each is compared on the outputs of the previous stages in Keras."""
    segments: list[GraphSegment] = []
    raw_errors: dict[str, float] = {}
    predicted: set[str] = set()  # outputs of stages with weights: those that random values can replace
    samples: Sequence[Sample] = [{IMAGES: image[None]} for image in images]
    for index, stage in enumerate(stages):
        segment = convert_stage(stage, samples, quantize, custom_ops)
        segments.append(segment)
        if stage.has_weights:
            raw_errors |= compare_with_keras(segment, samples, verify.TOLERANCES[quantize])
        else:
            check_same_rows(segment, samples[0], predicted & set(stage.inputs))
        later = stages[index + 1 :]
        if not any(other.has_weights for other in later):
            samples = comparison_samples(samples)
        needed = {IMAGES, *raw_names, *OUTPUTS, *(name for other in later for name in other.inputs)}
        known = set(samples[0])
        samples = _within_memory(run_and_append(samples, stage, needed))
        if stage.has_weights:
            predicted |= set(samples[0]) - known
    return _ConvertedStages(segments, raw_errors, samples)


def _within_memory(samples: Sequence[Outputs]) -> Sequence[Outputs]:
    size = sum(value.nbytes for value in samples[0].values())
    return samples[: max(COMPARISON_SAMPLES, int(MAX_SAMPLE_BYTES / size))]


def _write_verified(
    path: Path, converted: _ConvertedStages, content: bytes, custom_ops: Collection[str]
) -> ExportReport:
    """Writes the file if it passes all checks."""

    def check(written: bytes) -> tuple[dict[str, int], int, float]:
        ops = verify.check_allowed_ops(written, custom_ops=custom_ops)
        outputs = check_merged(converted.segments, TFLiteGraph(written), converted.samples, _MERGE_TOLERANCE)
        if not set(OUTPUTS) <= set(outputs[0]):
            return ops, 0, 1.0
        keras_agreement = verify.agreement(
            _detections(converted.samples),
            _detections(outputs),
            min_iou=_AGREEMENT_IOU,
            score_tolerance=_AGREEMENT_SCORE,
        )
        return ops, sum(int(values["count"][0]) for values in outputs), keras_agreement

    ops, num_detections, keras_agreement = write_if_verified(path, content, check)
    partitions = verify.count_partitions(content)
    return ExportReport(str(path), len(content), ops, partitions, converted.raw_errors, num_detections, keras_agreement)


def _detections(outputs: Sequence[Sample]) -> list[Detections]:
    return [to_detections(values, _IMAGE_SIZE, ()) for values in outputs]


def write_if_verified(path: Path, content: bytes, check: Callable[[bytes], Verified]) -> Verified:
    """Writes a temporary file, runs `check` on what was written, and renames it to `path` if no error is raised.

    Returns:
        The result of `check`.

    Raises:
        ExportError: Raised by `check`, or the folder is not writable.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        write_durably(temporary, content)
        verified = check(flatbuffer.read_content(temporary))
        os.replace(temporary, path)
    except OSError as error:
        raise ExportError(f"Expected to write {str(path)!r}, got {error}. Choose a writable folder.") from None
    finally:
        temporary.unlink(missing_ok=True)
    return verified


def prepare_calibration(model: BaseModel, calibration: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Returns up to `CALIBRATION_IMAGES` images at the model's input size, uint8 `[H, W, 3]`.

    Raises:
        ExportError: There are no images, or the model does not compute in float32.
    """
    other_dtypes = {layer.compute_dtype for layer in model._flatten_layers(include_self=False)} - {"float32", None}
    if other_dtypes:
        raise ExportError(
            f"Expected a model of float32 policy, got layers that compute in {sorted(other_dtypes)}. "
            "Build it again under the float32 policy and load the weights."
        )
    images = [resize_image(image, model.input_size) for image in islice(calibration, CALIBRATION_IMAGES)]
    if not images:
        raise ExportError("Expected images to compare the file with the model on, got none. Pass calibration images.")
    return images
