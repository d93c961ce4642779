"""Exports a trained detector to a verified .tflite file."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from keras_lightdet.boxes.nms import SelectSpec
from keras_lightdet.deploy import segments, verify
from keras_lightdet.deploy.calibration import IMAGES, Sample
from keras_lightdet.deploy.metadata import add_metadata, pack_labels
from keras_lightdet.deploy.postprocess import CUSTOM_OP, OUTPUTS, POSTPROCESS_FORMS, build_postprocess
from keras_lightdet.deploy.runtime import Outputs, TFLiteGraph, to_detections
from keras_lightdet.deploy.segments import GraphSegment
from keras_lightdet.deploy.writing import FileReport, prepare_calibration, verified_file
from keras_lightdet.detection.detections import Detections
from keras_lightdet.detection.model import DetectorModel
from keras_lightdet.errors import ExportError
from keras_lightdet.files import StrPath, expand_user
from keras_lightdet.inference_stage import InferenceStage

MAX_SAMPLE_BYTES = 1e9
_MERGE_TOLERANCE = 1e-5
_IMAGE_SIZE = (1000, 1000)  # overlaps do not depend on it, but `pairwise_iou` expects pixels
_AGREEMENT_IOU, _AGREEMENT_SCORE = 0.5, 0.1


@dataclass(frozen=True)
class ExportReport(FileReport):
    """The written file and how it compares with the Keras model.

    Attributes:
        num_detections: Detections in the compared images; 0 if the file gives raw outputs.
        keras_agreement: Fraction of detections on which model and file agree (same label, IoU of at least 0.5, scores
            within 0.1): the effect of quantization.
    """

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
    converted, raw_errors, samples = _convert_stages(stages, raw_names, images, quantize, custom_ops)
    if postprocess == "none":
        content = pack_labels(segments.merge(converted, raw_names), model.class_names)
    else:
        content = add_metadata(segments.merge(converted, OUTPUTS), model.class_names, name=model.name)
    path, num_detections, keras_agreement = expand_user(path), 0, 1.0
    with verified_file(path, content) as written:
        ops = verify.check_allowed_ops(written, custom_ops=custom_ops)
        outputs = segments.check_merged(converted, TFLiteGraph(written), samples, _MERGE_TOLERANCE)
        if postprocess != "none":
            num_detections = sum(int(values["count"][0]) for values in outputs)
            keras_agreement = verify.agreement(
                _detections(samples), _detections(outputs), min_iou=_AGREEMENT_IOU, score_tolerance=_AGREEMENT_SCORE
            )
    partitions = verify.count_partitions(content)
    return ExportReport(str(path), len(content), ops, partitions, raw_errors, num_detections, keras_agreement)


def _convert_stages(
    stages: Sequence[InferenceStage],
    raw_names: Collection[str],
    images: Sequence[np.ndarray],
    quantize: str,
    custom_ops: Collection[str],
) -> tuple[list[GraphSegment], dict[str, float], Sequence[Sample]]:
    """Converts the stages one by one; each is compared on the outputs of the previous stages in Keras.

    Returns:
        The segments in the order in which they run; the errors, see `FileReport.raw_errors`; and the compared images
        with the outputs of all stages in Keras.
    """
    converted: list[GraphSegment] = []
    raw_errors: dict[str, float] = {}
    predicted: set[str] = set()  # outputs of stages with weights: those that random values can replace
    samples: Sequence[Sample] = [{IMAGES: image[None]} for image in images]
    for index, stage in enumerate(stages):
        segment = segments.convert_stage(stage, samples, quantize, custom_ops)
        converted.append(segment)
        if stage.has_weights:
            raw_errors |= segments.compare_with_keras(segment, samples, verify.TOLERANCES[quantize])
        else:
            segments.check_same_rows(segment, samples[0], predicted & set(stage.inputs))
        later = stages[index + 1 :]
        if not any(other.has_weights for other in later):
            samples = segments.comparison_samples(samples)
        needed = {IMAGES, *raw_names, *OUTPUTS, *(name for other in later for name in other.inputs)}
        known = set(samples[0])
        samples = _within_memory(segments.run_and_append(samples, stage, needed))
        if stage.has_weights:
            predicted |= set(samples[0]) - known
    return converted, raw_errors, samples


def _within_memory(samples: Sequence[Outputs]) -> Sequence[Outputs]:
    size = sum(value.nbytes for value in samples[0].values())
    return samples[: max(segments.COMPARISON_SAMPLES, int(MAX_SAMPLE_BYTES / size))]


def _detections(outputs: Sequence[Sample]) -> list[Detections]:
    return [to_detections(values, _IMAGE_SIZE, ()) for values in outputs]
