"""A trained detector to a checked .tflite file."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_lightdet.boxes.detections import Detections
from keras_lightdet.boxes.selection import SelectSpec
from keras_lightdet.deploy import convert, flatbuffer, verify
from keras_lightdet.deploy.metadata import add_metadata, pack_labels
from keras_lightdet.deploy.postprocess import CUSTOM_OP, POSTPROCESS_FORMS, build_postprocess
from keras_lightdet.deploy.runtime import Graph, to_detections
from keras_lightdet.deploy.splice import splice
from keras_lightdet.errors import ExportError
from keras_lightdet.files import write_synced
from keras_lightdet.images import resize_image

CALIBRATION_PICTURES = 100  # more changed nothing measurable
COMPARED_PICTURES = 8

_RANDOM_TRIALS, _RANDOM_SPREAD = 4, 2.0  # logits of two either way: scores from hardly any to nearly one
_SPLICE_TOLERANCE = 1e-5
_PICTURE_SIZE = (1000, 1000)  # overlaps do not depend on it, but `pairwise_iou` expects pixels
_ALIKE_IOU, _ALIKE_SCORE = 0.5, 0.1

Outputs = dict[str, np.ndarray]


@dataclass(frozen=True)
class ExportReport:
    """What was written and how it compares with the Keras model.

    Attributes:
        path: The file.
        num_bytes: Its size.
        ops: How often each op occurs, by name.
        partitions: Pieces of the graph that XNNPACK, the CPU delegate, takes.
        raw_errors: Root mean square error of each raw output, as a share of its standard deviation.
        num_detections: Detections in the compared pictures; 0 where the file gives raw outputs.
        keras_agreement: Share of detections that model and file have alike (same label, IoU of 0.5, scores
            within 0.1); what quantisation costs.
    """

    path: str
    num_bytes: int
    ops: dict[str, int]
    partitions: int
    raw_errors: dict[str, float]
    num_detections: int
    keras_agreement: float


def export_tflite(
    model,
    path: str | Path,
    *,
    quantize: str = "none",
    postprocess: str = "builtin",
    calibration: Iterable[np.ndarray],
    select: SelectSpec | None = None,
) -> ExportReport:
    """Exports a detector, compares the file with the model, and only then puts it in its place.

    The file takes one raw uint8 RGB picture `[1, H, W, 3]` named "images" and gives float32 outputs: "boxes"
    `[1, D, 4]` (relative y_min, x_min, y_max, x_max), "labels" `[1, D]`, "scores" `[1, D]` and "count" `[1]`.

    Args:
        model: A `DetectorModel` of float32 policy.
        path: Where the file goes. What stands there is replaced in one step, or kept if the export fails.
        quantize: "none", "float16", "dynamic" (int8 weights) or "int8"; decoding and suppression always stay
            float32.
        postprocess: "builtin" (built-in ops alone), "custom_op" (TFLite_Detection_PostProcess) or "none" (raw
            outputs).
        calibration: Uint8 RGB pictures of any size, like those the detector will see: the first 100 set
            int8's ranges, and eight of them are compared.
        select: Thresholds and counts to bake in; None = the model's own.

    Raises:
        ExportError: The file differs from the model or has an op outside the allow-list, or an argument does
            not fit.
    """
    if postprocess not in POSTPROCESS_FORMS:
        raise ExportError(f"Expected postprocess to be one of {POSTPROCESS_FORMS}, got {postprocess!r}. Do choose one.")
    _require_float32(model)
    pictures = [resize_image(picture, model.input_size) for picture in islice(calibration, CALIBRATION_PICTURES)]
    if not pictures:
        raise ExportError(
            "Expected pictures to compare the file with the model on, got none. Do pass some as calibration."
        )

    def network(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return model(images, training=False)

    net = convert.convert_network(
        network, model.input_size, quantize=quantize, calibration=pictures, limits=model.raw_limits()
    )
    compared = pictures[:: max(1, len(pictures) // COMPARED_PICTURES)][:COMPARED_PICTURES]
    expected = [_numpy(network(tf.cast(picture[None], tf.float32))) for picture in compared]
    if postprocess == "none":
        parts = _Parts(net, pack_labels(net, model.class_names))
    else:
        detect = build_postprocess(model, postprocess, select)
        shapes = {name: value.shape for name, value in expected[0].items()}
        custom_ops = (CUSTOM_OP,) if postprocess == "custom_op" else ()
        post = convert.convert_float_part(detect, shapes, custom_ops=bool(custom_ops))
        whole = add_metadata(splice(net, post), model.class_names, name=model.name)
        parts = _Parts(net, whole, post, detect, custom_ops)
    return _write_checked(Path(path), parts, compared, expected, verify.TOLERANCES[quantize], model.raw_limits())


@dataclass(frozen=True)
class _Parts:
    """What an export consists of; `detect` is the Keras side of `post`."""

    net: bytes
    whole: bytes
    post: bytes | None = None
    detect: Callable[[dict], dict] | None = None
    custom_ops: tuple[str, ...] = ()


def _write_checked(
    path: Path,
    parts: _Parts,
    pictures: Sequence[np.ndarray],
    expected: Sequence[Outputs],
    tolerance: verify.Tolerance,
    limits: Mapping[str, tuple[float, float]],
) -> ExportReport:
    """Writes the file aside, judges it, and moves it into place if it is sound."""
    aside = path.with_name(f".{path.name}.part")
    try:
        write_synced(aside, parts.whole)
        written = flatbuffer.read_content(aside)
        ops = verify.require_allowed_ops(written, custom_ops=parts.custom_ops)
        raw = _run(parts.net, [{"images": picture[None]} for picture in pictures])
        errors = verify.compare_raw(expected, raw, tolerance, limits)
        found, alike = 0, 1.0
        if parts.detect:
            _require_same_float_part(parts)
            outputs = _require_same_splice(parts, written, pictures, raw)
            keras = [_numpy(parts.detect(_tensors(own))) for own in expected]
            found = sum(int(own["count"][0]) for own in outputs)
            alike = verify.agreement(
                _detections(keras), _detections(outputs), min_iou=_ALIKE_IOU, score_tolerance=_ALIKE_SCORE
            )
        os.replace(aside, path)
    except OSError as error:
        raise ExportError(
            f"Expected to write {str(path)!r}, got {error}. Do choose a folder that can be written."
        ) from None
    finally:
        aside.unlink(missing_ok=True)
    partitions = verify.count_partitions(parts.whole)
    return ExportReport(str(path), len(parts.whole), ops, partitions, errors, found, alike)


def _require_same_float_part(parts: _Parts) -> None:
    """Compares decoding and suppression alone, on raw outputs drawn at random.

    Real ones will not do: flat areas of a picture give equal scores, among which the cut is a matter of
    rounding, and an untrained network detects nothing.

    Raises:
        ExportError: The .tflite makes of them other detections than Keras.
    """
    draw = np.random.default_rng(0)
    shapes = Graph(parts.post).input_shapes
    raw = [
        {name: draw.normal(0, _RANDOM_SPREAD, shape).astype(np.float32) for name, shape in shapes.items()}
        for _ in range(_RANDOM_TRIALS)
    ]
    wanted = _detections([_numpy(parts.detect(_tensors(own))) for own in raw])
    same = verify.agreement(wanted, _detections(_run(parts.post, raw)))
    if same < verify.MIN_AGREEMENT:
        raise ExportError(
            f"Expected decoding and suppression in the .tflite to give Keras' detections, got {same:.1%} of "
            f"{sum(map(len, wanted))} alike. Do check that `decode` uses ops that TFLite computes the same "
            "way."
        )


def _require_same_splice(
    parts: _Parts, content: bytes, pictures: Sequence[np.ndarray], raw: Sequence[Outputs]
) -> list[Outputs]:
    """Returns the outputs of the whole file, which must be those of its parts run one after the other."""
    whole = _run(content, [{"images": picture[None]} for picture in pictures])
    for got, wanted in zip(whole, _run(parts.post, raw), strict=True):
        for name, value in wanted.items():
            if not np.allclose(got[name], value, rtol=0, atol=_SPLICE_TOLERANCE):
                raise ExportError(
                    f"Expected the output {name!r} of the whole .tflite to be that of its parts, got "
                    f"differences up to {np.abs(got[name] - value).max():.3g}. Do report it with the model's "
                    "architecture."
                )
    return whole


def _run(content: bytes, inputs: Sequence[Outputs]) -> list[Outputs]:
    graph = Graph(content)
    return [graph.run(own) for own in inputs]


def _detections(outputs: Sequence[Outputs]) -> list[Detections]:
    return [to_detections(own, _PICTURE_SIZE, ()) for own in outputs]


def _tensors(outputs: Outputs) -> dict[str, tf.Tensor]:
    return {name: tf.constant(value) for name, value in outputs.items()}


def _numpy(outputs: Mapping[str, tf.Tensor]) -> Outputs:
    return {name: np.asarray(value) for name, value in outputs.items()}


def _require_float32(model) -> None:
    layers = model._flatten_layers(include_self=False)
    others = {layer.compute_dtype for layer in layers} - {"float32", None}
    if others:
        raise ExportError(
            f"Expected a model of float32 policy, got layers that compute in {sorted(others)}. "
            "Do build it again under the float32 policy and load the weights."
        )
