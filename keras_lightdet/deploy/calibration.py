"""Calibrates int8 tensors: chooses the ranges that change the activations of the calibration images least.

The converter's own calibration takes minimum and maximum, so that a single outlier makes the steps of a whole tensor
coarse; on synthetic scenes it lost twice as many points of average precision as these ranges.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from keras_lightdet.deploy import flatbuffer
from keras_lightdet.deploy.runtime import TFLiteGraph
from keras_lightdet.errors import ExportError

STEPS = 255  # between the lowest and the highest of 256 values
BINS = 2048
CANDIDATES = 128  # bounds tried on each side of zero
IMAGES, RAW_PIXEL_RANGE = "images", (0.0, 255.0)
_LARGEST = 1e30  # sums in the runtime saturate at the largest float32 instead of infinity
_DEAD_RANGE = (0.0, 1.0)  # of a tensor that is zero in every image; the quantizer needs a positive width

Range = tuple[float, float]
Sample = Mapping[str, np.ndarray]


def set_ranges(content: bytes, samples: Sequence[Sample], limits: Mapping[str, Range] | None = None) -> bytes:
    """Sets the range that 8 bits will span for each computed tensor of a float32 flatbuffer.

    Args:
        content: The flatbuffer to be quantized. Its input "images", if it has one, takes raw pixels.
        samples: Values of the signature's inputs.
        limits: By output of the signature, the `(low, high)` beyond which all values decode to the same; ranges do not
            exceed them.

    Returns:
        The flatbuffer with `min` and `max` in its tensors' quantization, where the converter's quantizer reads them.
    """
    model, schema = flatbuffer.unpack(content), flatbuffer.load_schema()
    subgraph, (inputs, outputs) = model.subgraphs[0], flatbuffer.signature_tensors(model)
    computed = {int(index) for operator in subgraph.operators for index in operator.outputs} | set(inputs.values())
    measured = [index for index in sorted(computed) if subgraph.tensors[index].type == schema.TensorType.FLOAT32]
    tensor_limits = {outputs[name]: limit for name, limit in (limits or {}).items()}
    histograms = _count_values(content, measured, samples)
    ranges = {index: best_range(histogram, tensor_limits.get(index)) for index, histogram in histograms.items()}
    if IMAGES in inputs:
        ranges[inputs[IMAGES]] = RAW_PIXEL_RANGE
    for index, (low, high) in ranges.items():
        subgraph.tensors[index].quantization = schema.QuantizationParametersT(min=[low], max=[high])
    return flatbuffer.pack(model)


@dataclass
class Histogram:
    """Histogram of a tensor's values except zero, which 8 bits represent exactly.

    Attributes:
        low: Smallest value, at most 0.
        high: Largest value, at least 0.
        counts: Int64 `[BINS]`.
    """

    low: float
    high: float
    counts: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def add(self, values: np.ndarray) -> None:
        """Counts more values; those outside the range fall into the first or last bin."""
        values = values[values != 0]
        bins = ((values - self.low) * (BINS / (self.high - self.low))).astype(np.int64)
        self.counts += np.bincount(np.clip(bins, 0, BINS - 1), minlength=BINS)

    def centers(self) -> np.ndarray:
        """Returns the middle value of each bin."""
        return self.low + (np.arange(BINS) + 0.5) * (self.high - self.low) / BINS


def best_range(histogram: Histogram, limit: Range | None = None) -> Range:
    """Returns the range around zero whose 256 values change a tensor least by the mean squared error.

    The error is the sum of clipping, the squared excess over the range, and of rounding, a twelfth of the squared step.
    """
    low, high = histogram.low, histogram.high
    if low == high:
        return _DEAD_RANGE
    values, counts = histogram.centers(), histogram.counts
    if limit is not None:
        low, high = max(low, limit[0]), min(high, limit[1])
        values = np.clip(values, low, high)
    fractions = np.arange(1, CANDIDATES + 1) / CANDIDATES
    lows, highs = low * fractions, high * fractions
    clipping = _clipping_error(-values, counts, -lows)[:, None] + _clipping_error(values, counts, highs)
    step = (highs - lows[:, None]) / STEPS
    row, column = np.unravel_index(np.argmin(clipping + step**2 / 12 * counts.sum()), clipping.shape)
    return float(lows[row]), float(highs[column])


def _clipping_error(values: np.ndarray, counts: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Returns for each bound the sum of squared excesses of the values above it."""
    return np.maximum(values - bounds[:, None], 0.0) ** 2 @ counts


def _count_values(content: bytes, tensors: Sequence[int], samples: Sequence[Sample]) -> dict[int, Histogram]:
    """Runs the samples twice: once for the ends of the histograms, once for the counts."""
    histograms = {index: Histogram(0.0, 0.0) for index in tensors}
    for read in _runs(content, samples):
        for index, histogram in histograms.items():
            values = read(index)
            histogram.low = float(np.minimum(histogram.low, values.min()))  # NaN stays NaN
            histogram.high = float(np.maximum(histogram.high, values.max()))
    non_finite = [index for index, seen in histograms.items() if not max(-seen.low, seen.high) < _LARGEST]
    if non_finite:
        raise ExportError(
            f"Expected finite activations, got NaN or infinity in {len(non_finite)} of {len(histograms)} tensors. "
            "Train the model again."
        )
    nonzero = {index: histogram for index, histogram in histograms.items() if histogram.low < histogram.high}
    for read in _runs(content, samples):
        for index, histogram in nonzero.items():
            histogram.add(read(index))
    return histograms


def _runs(content: bytes, samples: Sequence[Sample]) -> Iterator[Callable[[int], np.ndarray]]:
    """Yields for each sample the function from a tensor's index to its values."""
    graph = TFLiteGraph(content, keep_all=True)
    for sample in samples:
        graph.run({name: np.float32(sample[name]) for name in graph.input_shapes})
        yield graph.interpreter.get_tensor
