"""Verifies a .tflite: its ops, its delegate partitions, and its outputs against those of the Keras model."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keras_lightdet.boxes.overlap import pairwise_iou
from keras_lightdet.deploy import flatbuffer
from keras_lightdet.deploy.calibration import Range
from keras_lightdet.deploy.runtime import make_interpreter
from keras_lightdet.detection.detections import Detections
from keras_lightdet.errors import ExportError

# Built-ins that run on the CPU runtime without further libraries: in float32, and in int8 where networks use them.
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
    """Largest difference of raw outputs from those of the Keras model.

    Attributes:
        relative: Largest root mean square error, as a fraction of the output's standard deviation over positions and
            images: the differences between positions are what must be preserved.
        steps: Errors below this many 1/255 of the output's range (0 included, as 8 bits represent it) are always
            accepted: a head with nearly constant outputs, such as an untrained one, cannot do better.
    """

    relative: float
    steps: float


# Measured on valid files (fraction of the standard deviation): none 1e-6 to 3e-4, float16 5e-4, dynamic 0.01, int8 0.02
# to 0.24, the last in a detector in the middle of its training, mostly at positions without an object. Real faults
# (pixels normalized twice, outputs swapped, weights lost) give 1 and more. These bounds separate the two; `lightdet
# check` measures the loss of average precision by int8.
TOLERANCES = {
    "none": Tolerance(0.01, 0.01),
    "float16": Tolerance(0.05, 0.05),
    "dynamic": Tolerance(0.15, 4.0),
    "int8": Tolerance(0.6, 8.0),
}

# Stages without weights are float32 in every mode and must agree, except for rounding at a threshold.
_SAME_IOU, _SAME_SCORE = 0.99, 1e-3
MIN_AGREEMENT = 0.98
_SAME_ROW, _KEY_NUMBERS = 1e-3, 5


def list_ops(content: bytes) -> dict[str, int]:
    """Returns the number of operators by name; a custom op has the name of its custom code."""
    model = flatbuffer.unpack(content)
    names = [flatbuffer.op_name(code) for code in model.operatorCodes]
    operators = [operator for subgraph in model.subgraphs for operator in subgraph.operators]
    return dict(sorted(Counter(names[operator.opcodeIndex] for operator in operators).items()))


def check_allowed_ops(content: bytes, *, custom_ops: Collection[str] = ()) -> dict[str, int]:
    """Checks the ops of a file and returns them as `list_ops` does.

    Args:
        content: The flatbuffer.
        custom_ops: Custom ops that the file must have; all others are rejected.

    Raises:
        ExportError: An op outside `ALLOWED_OPS` (variables that were not frozen appear as VAR_HANDLE, TensorFlow's own
            kernels as Flex), or a custom op is missing because the converter inlined its body.
    """
    ops = list_ops(content)
    unsupported = sorted(set(ops) - ALLOWED_OPS - set(custom_ops))
    if unsupported:
        raise ExportError(
            f"Expected only TFLite built-in ops that every CPU runtime has, got {unsupported}. "
            "Replace the layer that makes them (VAR_HANDLE: freeze the weights first)."
        )
    missing = sorted(set(custom_ops) - set(ops))
    if missing:
        raise ExportError(
            f"Expected the custom ops {missing} in the file, got {sorted(ops)}: the converter inlined the body of the "
            "function. Convert through a SavedModel."
        )
    return ops


def count_partitions(content: bytes) -> int:
    """Returns the number of subgraphs that XNNPACK, the CPU delegate, takes; 0 if the delegate is not used."""
    details = make_interpreter(content)._get_ops_details()  # there is no public method
    return sum(detail["op_name"] == "DELEGATE" for detail in details)


def compare_raw(
    expected: Sequence[Mapping[str, np.ndarray]],
    outputs: Sequence[Mapping[str, np.ndarray]],
    tolerance: Tolerance,
    limits: Mapping[str, Range] | None = None,
) -> dict[str, float]:
    """Compares raw outputs over images.

    Args:
        expected: Outputs of the Keras model, one dict per image, `[1, N]` or `[1, ..., C]` each.
        outputs: Outputs of the file.
        tolerance: From `TOLERANCES`.
        limits: By output, the `(low, high)` beyond which all values decode to the same, see `InferenceStage.limits`.

    Returns:
        Root mean square error by output, as a fraction of the output's standard deviation.

    Raises:
        ExportError: An output exceeds the tolerance or is not finite.
    """
    errors = {}
    for name in expected[0]:
        low, high = (limits or {}).get(name, (-np.inf, np.inf))
        keras_values, file_values = (
            np.concatenate([np.asarray(raw[name], np.float64) for raw in side]) for side in (expected, outputs)
        )
        finite = np.isfinite(file_values).all()
        keras_values, file_values = np.clip(keras_values, low, high), np.clip(file_values, low, high)
        positions = tuple(range(max(2, keras_values.ndim - 1)))  # the last axis is channels, each with its own mean
        deviation = float(np.sqrt(np.mean(np.square(keras_values - keras_values.mean(axis=positions)))))
        rms = float(np.sqrt(np.mean(np.square(file_values - keras_values)))) if finite else np.inf
        step = (max(float(keras_values.max()), 0.0) - min(float(keras_values.min()), 0.0)) / 255
        accepted = max(tolerance.relative * deviation, tolerance.steps * step)
        if rms > accepted:
            raise ExportError(
                f"Expected the raw output {name!r} of the .tflite to be within {accepted:.3g} (root mean "
                f"square) of the Keras model's, got {rms:.3g}. Calibrate with more typical images, or export without "
                "int8."
            )
        errors[name] = rms / deviation if deviation else rms
    return errors


def count_rows(outputs: Mapping[str, np.ndarray]) -> int:
    """Returns the number of filled rows `[1, R, ...]` of a selection; the others hold zeros or -1."""
    return int(np.any(_rows(outputs) > 0, axis=-1).sum())


def count_same_rows(expected: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> int:
    """Returns the number of filled rows of `expected` that have an equal row in `outputs`, in any order.

    Args:
        expected: Arrays `[1, R, ...]` by name; arrays of one dimension, such as a count, are ignored.
        outputs: The same of the file.
    """
    expected_rows, rows = _rows(expected), _rows(outputs)
    expected_rows = expected_rows[np.any(expected_rows > 0, axis=-1)]
    num_same = 0
    for row in expected_rows:  # comparing all pairs at once would take gigabytes where regions are large
        tolerance = _SAME_ROW * (1.0 + np.abs(row))
        key = slice(0, _KEY_NUMBERS)
        candidates = np.flatnonzero(np.all(np.abs(rows[:, key] - row[key]) <= tolerance[key], axis=-1))
        num_same += any(np.all(np.abs(rows[index] - row) <= tolerance) for index in candidates)
    return num_same


def _rows(outputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Concatenates the numbers of each row over all outputs, `[R, numbers]`, the smaller outputs first."""
    ranked = sorted((np.asarray(value)[0] for value in outputs.values() if np.ndim(value) > 1), key=np.size)
    return np.concatenate([value.reshape(len(value), -1) for value in ranked], axis=-1)


def agreement(
    expected: Sequence[Detections],
    detections: Sequence[Detections],
    *,
    min_iou: float = _SAME_IOU,
    score_tolerance: float = _SAME_SCORE,
) -> float:
    """Returns the fraction of detections, of both sides together, that have a match on the other side.

    Matches have the same label, an IoU of at least `min_iou` and scores within `score_tolerance`; each detection is
    used once. 1.0 if both sides are empty.
    """
    pairs = list(zip(expected, detections, strict=True))
    matched = sum(_count_matches(ours, theirs, min_iou, score_tolerance) for ours, theirs in pairs)
    total = sum(len(ours) + len(theirs) for ours, theirs in pairs)
    return 2 * matched / total if total else 1.0


def _count_matches(ours: Detections, theirs: Detections, min_iou: float, score_tolerance: float) -> int:
    if not len(ours) or not len(theirs):
        return 0
    ious = np.array(pairwise_iou(ours.boxes, theirs.boxes))
    comparable = (ours.labels[:, None] == theirs.labels) & (
        np.abs(ours.scores[:, None] - theirs.scores) <= score_tolerance
    )
    ious[~comparable] = -1.0
    num_matches = 0
    for row in range(len(ours)):
        best = int(ious[row].argmax())
        if ious[row, best] >= min_iou:
            num_matches += 1
            ious[:, best] = -1.0
    return num_matches
