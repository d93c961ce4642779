"""A trained detector to a checked .tflite file."""

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from keras_lightdet.boxes.nms import SelectSpec
from keras_lightdet.deploy import convert, flatbuffer, verify
from keras_lightdet.deploy.metadata import add_metadata, pack_labels
from keras_lightdet.deploy.postprocess import CUSTOM_OP, OUTPUTS, POSTPROCESS_FORMS, build_postprocess
from keras_lightdet.deploy.runtime import Graph, to_detections
from keras_lightdet.deploy.segments import (
    COMPARED_SAMPLES,
    Outputs,
    Part,
    compare_with_keras,
    compared,
    convert_part,
    extend,
    join,
    require_same_choice,
    require_same_whole,
)
from keras_lightdet.detection.detections import Detections
from keras_lightdet.errors import ExportError
from keras_lightdet.files import write_durably
from keras_lightdet.images import resize_image
from keras_lightdet.inference_stage import InferenceStage

CALIBRATION_IMAGES = 100  # more changed nothing measurable
MAX_SAMPLE_BYTES = 1e9

Judged = TypeVar("Judged")

_SPLICE_TOLERANCE = 1e-5
_IMAGE_SIZE = (1000, 1000)  # overlaps do not depend on it, but `pairwise_iou` expects pixels
_ALIKE_IOU, _ALIKE_SCORE = 0.5, 0.1


@dataclass(frozen=True)
class ExportReport:
    """What was written and how it compares with the Keras model.

    Attributes:
        path: The file.
        num_bytes: Its size.
        ops: How often each op occurs, by name.
        partitions: Pieces of the graph that XNNPACK, the CPU delegate, takes.
        raw_errors: Root mean square error of each raw output, as a share of its standard deviation.
        num_detections: Detections in the compared images; 0 where the file gives raw outputs.
        keras_agreement: Share of detections that model and file have alike (same label, IoU of 0.5, scores
            within 0.1); what quantization costs.
    """

    path: str
    num_bytes: int
    ops: dict[str, int]
    partitions: int
    raw_errors: dict[str, float]
    num_detections: int
    keras_agreement: float


def export_detection(
    model,
    path: str | Path,
    *,
    quantize: str = "none",
    postprocess: str = "builtin",
    calibration: Iterable[np.ndarray],
    select: SelectSpec | None = None,
) -> ExportReport:
    """Exports a detector, compares the file with the model, and only then puts it in its place.

    The file takes one raw uint8 RGB image `[1, H, W, 3]` named "images" and gives float32 outputs: "boxes"
    `[1, D, 4]` (relative y_min, x_min, y_max, x_max), "labels" `[1, D]`, "scores" `[1, D]` and "count" `[1]`.

    Args:
        model: A `DetectorModel` of float32 policy.
        path: Where the file goes. What stands there is replaced in one step, or kept if the export fails.
        quantize: "none", "float16", "dynamic" (int8 weights) or "int8"; decoding and suppression always stay
            float32.
        postprocess: "builtin" (built-in ops alone), "custom_op" (TFLite_Detection_PostProcess) or "none" (raw
            outputs).
        calibration: Uint8 RGB images of any size, like those the detector will see: the first 100 set
            int8's ranges, and eight of them are compared.
        select: Thresholds and counts to bake in; None = the model's own.

    Raises:
        ExportError: The file differs from the model or has an op outside the allow-list, or an argument does
            not fit.
    """
    if postprocess not in POSTPROCESS_FORMS:
        raise ExportError(f"Expected postprocess to be one of {POSTPROCESS_FORMS}, got {postprocess!r}. Do choose one.")
    require_float32(model)
    pictures = [resize_image(image, model.input_size) for image in islice(calibration, CALIBRATION_IMAGES)]
    if not pictures:
        raise ExportError(
            "Expected images to compare the file with the model on, got none. Do pass some as calibration."
        )

    stages = model.inference_stages()
    raw_names = tuple(model(pictures[0][None], training=False))
    custom_ops = (CUSTOM_OP,) if postprocess == "custom_op" else ()
    if postprocess != "none":
        stages.append(
            InferenceStage("post-processing", build_postprocess(model, postprocess, select), raw_names, False)
        )
    made = _convert_stages(stages, raw_names, pictures, quantize, custom_ops)
    if postprocess == "none":
        whole = pack_labels(join(made.parts, raw_names), model.class_names)
    else:
        whole = add_metadata(join(made.parts, OUTPUTS), model.class_names, name=model.name)
    return _write_checked(Path(path), made, whole, custom_ops)


@dataclass(frozen=True)
class _Made:
    """The parts of an export.

    Attributes:
        parts: In their order.
        errors: See `ExportReport.raw_errors`.
        samples: The compared images, with what Keras' last stage makes of them.
    """

    parts: list[Part]
    errors: dict[str, float]
    samples: list[Outputs]


def _convert_stages(
    stages: Sequence[InferenceStage],
    raw_names: Collection[str],
    pictures: Sequence[np.ndarray],
    quantize: str,
    custom_ops: Collection[str],
) -> _Made:
    """Converts stage by stage, each judged on what Keras' stages before it give."""
    parts, errors, drawn = [], {}, set()
    samples = [{convert.IMAGES: image[None]} for image in pictures]
    for index, stage in enumerate(stages):
        part = convert_part(stage, samples, quantize, custom_ops)
        parts.append(part)
        if stage.has_weights:
            errors |= compare_with_keras(part, samples, verify.TOLERANCES[quantize])
        else:
            require_same_choice(part, samples[0], drawn & set(stage.inputs))
        later = stages[index + 1 :]
        if not any(other.has_weights for other in later):
            samples = compared(samples)
        needed = {convert.IMAGES, *raw_names, *OUTPUTS, *(name for other in later for name in other.inputs)}
        before = set(samples[0])
        samples = _within_memory(extend(samples, stage, needed))
        if stage.has_weights:
            drawn |= set(samples[0]) - before
    return _Made(parts, errors, samples)


def _within_memory(samples: Sequence[Outputs]) -> Sequence[Outputs]:
    size = sum(value.nbytes for value in samples[0].values())
    return samples[: max(COMPARED_SAMPLES, int(MAX_SAMPLE_BYTES / size))]


def _write_checked(path: Path, made: _Made, whole: bytes, custom_ops: Collection[str]) -> ExportReport:
    """Writes the file, if it is sound."""

    def check(written: bytes) -> tuple[dict[str, int], int, float]:
        ops = verify.require_allowed_ops(written, custom_ops=custom_ops)
        outputs = require_same_whole(made.parts, Graph(written), made.samples, _SPLICE_TOLERANCE)
        if not set(OUTPUTS) <= set(outputs[0]):
            return ops, 0, 1.0
        alike = verify.agreement(
            _detections(made.samples), _detections(outputs), min_iou=_ALIKE_IOU, score_tolerance=_ALIKE_SCORE
        )
        return ops, sum(int(own["count"][0]) for own in outputs), alike

    ops, found, alike = put_in_place(path, whole, check)
    partitions = verify.count_partitions(whole)
    return ExportReport(str(path), len(whole), ops, partitions, made.errors, found, alike)


def put_in_place(path: Path, content: bytes, check: Callable[[bytes], Judged]) -> Judged:
    """Writes a file aside, moves it into place if `check` of what was written raises nothing, and returns its answer.

    Raises:
        ExportError: Of `check`, or the folder cannot be written.
    """
    aside = path.with_name(f".{path.name}.part")
    try:
        write_durably(aside, content)
        judged = check(flatbuffer.read_content(aside))
        os.replace(aside, path)
    except OSError as error:
        raise ExportError(
            f"Expected to write {str(path)!r}, got {error}. Do choose a folder that can be written."
        ) from None
    finally:
        aside.unlink(missing_ok=True)
    return judged


def _detections(outputs: Sequence[Outputs]) -> list[Detections]:
    return [to_detections(own, _IMAGE_SIZE, ()) for own in outputs]


def require_float32(model) -> None:
    """Raises an `ExportError` for a model whose layers compute in another type."""
    layers = model._flatten_layers(include_self=False)
    others = {layer.compute_dtype for layer in layers} - {"float32", None}
    if others:
        raise ExportError(
            f"Expected a model of float32 policy, got layers that compute in {sorted(others)}. "
            "Do build it again under the float32 policy and load the weights."
        )
