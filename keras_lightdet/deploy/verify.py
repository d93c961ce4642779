"""Judging a .tflite: its ops, its delegate partitions, and its answers beside the Keras model's."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keras_lightdet.boxes.overlap import pairwise_iou
from keras_lightdet.deploy import flatbuffer
from keras_lightdet.deploy.runtime import make_interpreter
from keras_lightdet.detection.detections import Detections
from keras_lightdet.errors import ExportError

# Built-ins that ran, in float32 and where the network uses them in int8, on the CPU runtime without further
# libraries.
ALLOWED_OPS = frozenset(
    """
    ABS ADD AVERAGE_POOL_2D BATCH_MATMUL BROADCAST_TO CAST CONCATENATION CONV_2D DEPTHWISE_CONV_2D
    DEPTH_TO_SPACE DEQUANTIZE DIV EXP EXPAND_DIMS FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER GATHER_ND GREATER
    GREATER_EQUAL HARD_SWISH LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGISTIC MAXIMUM MAX_POOL_2D MEAN
    MINIMUM MIRROR_PAD MUL NEG NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 PACK PAD PADV2 PRELU QUANTIZE
    REDUCE_MAX REDUCE_MIN RELU RELU6 RELU_0_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SELECT
    SELECT_V2 SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM
    TANH TILE TOPK_V2 TRANSPOSE TRANSPOSE_CONV UNPACK
    """.split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Tolerance:
    """How far raw outputs may be from the Keras model's.

    Attributes:
        relative: Largest root mean square error, as a share of the output's standard deviation over places
            and images: what a head says about one place rather than another is what must survive.
        steps: Errors below so many 1/255 parts of the output's range (0 included, as 8 bits are laid out) are
            granted in any case: a head that says nearly the same everywhere, such as an untrained one, cannot
            do better.
    """

    relative: float
    steps: float


# Measured on sound files (share of the standard deviation): none 1e-6 to 3e-4, float16 5e-4, dynamic 0.01,
# int8 0.02 to 0.24, the last in a detector in the middle of its training, most of it at places without an
# object. What real faults make (pixels normalized twice, an output swapped, weights lost) is 1 and more.
# These bounds tell the two apart; what int8 costs in score is for export/check_tflite.py to say.
TOLERANCES = {
    "none": Tolerance(0.01, 0.01),
    "float16": Tolerance(0.05, 0.05),
    "dynamic": Tolerance(0.15, 4.0),
    "int8": Tolerance(0.6, 8.0),
}

# The float part is float32 in every mode and must agree, but for rounding at a threshold.
_SAME_IOU, _SAME_SCORE = 0.99, 1e-3
MIN_AGREEMENT = 0.98
_SAME_ROW, _KEY_NUMBERS = 1e-3, 5


def list_ops(content: bytes) -> dict[str, int]:
    """Returns how often each op occurs, by name; a custom op has its own."""
    model = flatbuffer.unpack(content)
    names = [flatbuffer.op_name(code) for code in model.operatorCodes]
    return dict(sorted(Counter(names[op.opcodeIndex] for graph in model.subgraphs for op in graph.operators).items()))


def require_allowed_ops(content: bytes, *, custom_ops: Collection[str] = ()) -> dict[str, int]:
    """Checks the ops of a file and returns them as `list_ops` does.

    Args:
        content: The flatbuffer.
        custom_ops: Custom ops that must be there; any other is refused.

    Raises:
        ExportError: An op outside `ALLOWED_OPS` (variables that were not frozen show as VAR_HANDLE,
            TensorFlow's own kernels as Flex), or a custom op that is missing because the converter folded it
            away.
    """
    ops = list_ops(content)
    foreign = sorted(set(ops) - ALLOWED_OPS - set(custom_ops))
    if foreign:
        raise ExportError(
            f"Expected only TFLite built-in ops that every CPU runtime has, got {foreign}. "
            "Do replace the layer that makes them (VAR_HANDLE: freeze the weights first)."
        )
    missing = sorted(set(custom_ops) - set(ops))
    if missing:
        raise ExportError(
            f"Expected the custom ops {missing} in the file, found {sorted(ops)}: the converter has put the "
            "function's body in their place. Do convert through a SavedModel."
        )
    return ops


def count_partitions(content: bytes) -> int:
    """Returns into how many pieces XNNPACK, the CPU delegate, takes the graph; 0 means it runs without."""
    details = make_interpreter(content)._get_ops_details()  # no public way says it
    return sum(detail["op_name"] == "DELEGATE" for detail in details)


def quantized_ops(content: bytes) -> set[str]:
    """Returns the names of ops that read or write an 8-bit tensor."""
    model, types = flatbuffer.unpack(content), flatbuffer.load_schema().TensorType
    graph = model.subgraphs[0]
    found = set()
    for operator in graph.operators:
        tensors = [graph.tensors[int(i)] for i in [*operator.inputs, *operator.outputs] if int(i) >= 0]
        if any(tensor.type in (types.INT8, types.UINT8) for tensor in tensors):
            found.add(flatbuffer.op_name(model.operatorCodes[operator.opcodeIndex]))
    return found


def compare_raw(
    expected: Sequence[Mapping[str, np.ndarray]],
    got: Sequence[Mapping[str, np.ndarray]],
    tolerance: Tolerance,
    limits: Mapping[str, tuple[float, float]] | None = None,
) -> dict[str, float]:
    """Compares raw outputs over images.

    Args:
        expected: The Keras model's, one dict an image, `[1, N]` or `[1, ..., C]` each.
        got: The file's.
        tolerance: From `TOLERANCES`.
        limits: By output, the ends beyond which all values mean the same, see `DetectorModel.raw_limits`.

    Returns:
        Root mean square error by output, as a share of that output's standard deviation.

    Raises:
        ExportError: An output is beyond the tolerance, or not finite.
    """
    errors = {}
    for name in expected[0]:
        ends = (limits or {}).get(name, (-np.inf, np.inf))
        wanted, found = (
            np.concatenate([np.asarray(raw[name], np.float64) for raw in side]) for side in (expected, got)
        )
        finite = np.isfinite(found).all()
        wanted, found = np.clip(wanted, *ends), np.clip(found, *ends)
        error = found - wanted
        places = tuple(range(max(2, wanted.ndim - 1)))  # the rest are channels, each with a mean of its own
        spread = float(np.sqrt(np.mean(np.square(wanted - wanted.mean(axis=places)))))
        rms = float(np.sqrt(np.mean(np.square(error)))) if finite else np.inf
        step = (max(float(wanted.max()), 0.0) - min(float(wanted.min()), 0.0)) / 255
        granted = max(tolerance.relative * spread, tolerance.steps * step)
        if rms > granted:
            raise ExportError(
                f"Expected the raw output {name!r} of the .tflite to be within {granted:.3g} (root mean "
                f"square) of the Keras model's, got {rms:.3g}. Do calibrate with more typical images, or "
                "export without int8."
            )
        errors[name] = rms / spread if spread else rms
    return errors


def count_rows(outputs: Mapping[str, np.ndarray]) -> int:
    """Returns the rows `[1, R, ...]` that a choice has filled; the others hold zeros, or -1."""
    return int(np.any(_rows(outputs) > 0, axis=-1).sum())


def count_same_rows(expected: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray]) -> int:
    """Returns how many filled rows have their like among those of the other side, whatever their order.

    Args:
        expected: Outputs `[1, R, ...]` by name; those of other shapes, such as a count, are left out.
        got: The same of the file.
    """
    wanted, found = _rows(expected), _rows(got)
    wanted = wanted[np.any(wanted > 0, axis=-1)]
    same = 0
    for row in wanted:  # all pairs at once would take gigabytes where regions are large
        tolerance = _SAME_ROW * (1.0 + np.abs(row))
        key = slice(0, _KEY_NUMBERS)
        near = np.flatnonzero(np.all(np.abs(found[:, key] - row[key]) <= tolerance[key], axis=-1))
        same += any(np.all(np.abs(found[index] - row) <= tolerance) for index in near)
    return same


def _rows(outputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Lays what the outputs say of one thing side by side, `[R, numbers]`, the smaller outputs first."""
    ranked = sorted((np.asarray(value)[0] for value in outputs.values() if np.ndim(value) > 1), key=np.size)
    return np.concatenate([value.reshape(len(value), -1) for value in ranked], axis=-1)


def agreement(
    expected: Sequence[Detections],
    got: Sequence[Detections],
    *,
    min_iou: float = _SAME_IOU,
    score_tolerance: float = _SAME_SCORE,
) -> float:
    """Returns the share of detections, of both sides together, that have their counterpart on the other side.

    Counterparts have the same label, an IoU of at least `min_iou` and scores within `score_tolerance`; each
    is used once. 1.0 where neither side found anything.
    """
    matched = sum(_count_matches(a, b, min_iou, score_tolerance) for a, b in zip(expected, got, strict=True))
    total = sum(len(a) + len(b) for a, b in zip(expected, got, strict=True))
    return 2 * matched / total if total else 1.0


def _count_matches(a: Detections, b: Detections, min_iou: float, score_tolerance: float) -> int:
    if not len(a) or not len(b):
        return 0
    overlap = np.array(pairwise_iou(a.boxes, b.boxes))
    same = (a.labels[:, None] == b.labels) & (np.abs(a.scores[:, None] - b.scores) <= score_tolerance)
    overlap[~same] = -1.0
    matches = 0
    for row in range(len(a)):
        best = int(overlap[row].argmax())
        if overlap[row, best] >= min_iou:
            matches += 1
            overlap[:, best] = -1.0
    return matches
