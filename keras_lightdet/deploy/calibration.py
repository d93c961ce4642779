"""Ranges of an int8 file's tensors: those that change the activations of the calibration images least.

The converter's own calibration takes the least and the greatest value it sees, so that one outlier makes the steps of a
whole tensor coarse; on drawn scenes that cost twice the points of these ranges.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from keras_lightdet.deploy import flatbuffer
from keras_lightdet.deploy.runtime import Graph
from keras_lightdet.errors import ExportError

STEPS = 255  # from the lowest of 256 values to the highest
BINS = 2048
CANDIDATES = 128  # ends tried on each side of zero
IMAGES, RAW_PIXEL_RANGE = "images", (0.0, 255.0)
_LARGEST = 1e30  # the runtime's sums end at the largest number, not at infinity
_DEAD_RANGE = (0.0, 1.0)  # of a tensor that is zero in every image; the quantizer needs some width

Range = tuple[float, float]
Sample = Mapping[str, np.ndarray]


def set_ranges(content: bytes, samples: Sequence[Sample], limits: Mapping[str, Range] | None = None) -> bytes:
    """Writes beside each tensor of a float32 flatbuffer the range that its 8 bits are to span.

    Args:
        content: What is to be quantized. Its input "images", where it has one, takes raw pixels.
        samples: Values of the signature's inputs.
        limits: By output of the signature, the ends beyond which all values mean the same; no range reaches further.

    Returns:
        The flatbuffer with `min` and `max` in its tensors' quantization, where the converter's quantizer reads them.
    """
    model, schema = flatbuffer.unpack(content), flatbuffer.load_schema()
    graph, (inputs, outputs) = model.subgraphs[0], flatbuffer.signature_tensors(model)
    written = {int(index) for operator in graph.operators for index in operator.outputs} | set(inputs.values())
    measured = [index for index in sorted(written) if graph.tensors[index].type == schema.TensorType.FLOAT32]
    ends = {outputs[name]: limit for name, limit in (limits or {}).items()}
    histograms = _count_values(content, measured, samples)
    ranges = {index: best_range(histogram, ends.get(index)) for index, histogram in histograms.items()}
    if IMAGES in inputs:
        ranges[inputs[IMAGES]] = RAW_PIXEL_RANGE
    for index, (low, high) in ranges.items():
        graph.tensors[index].quantization = schema.QuantizationParametersT(min=[low], max=[high])
    return flatbuffer.pack(model)


@dataclass
class Histogram:
    """Counts of a tensor's values but zero, which 8 bits hold exactly.

    Attributes:
        low, high: Ends of the values, zero among them.
        counts: Int64 `[BINS]`.
    """

    low: float
    high: float
    counts: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def add(self, values: np.ndarray) -> None:
        """Counts more values; those outside the ends fall into the last bin there."""
        values = values[values != 0]
        bins = ((values - self.low) * (BINS / (self.high - self.low))).astype(np.int64)
        self.counts += np.bincount(np.clip(bins, 0, BINS - 1), minlength=BINS)

    def centers(self) -> np.ndarray:
        """Returns the middle value of each bin."""
        return self.low + (np.arange(BINS) + 0.5) * (self.high - self.low) / BINS


def best_range(histogram: Histogram, limit: Range | None = None) -> Range:
    """Returns the range around zero whose 256 values change a tensor least, by the mean squared error.

    That is the squares of what is cut off at the ends, and a twelfth of the squared step for rounding.
    """
    low, high = histogram.low, histogram.high
    if low == high:
        return _DEAD_RANGE
    values, counts = histogram.centers(), histogram.counts
    if limit is not None:
        low, high = max(low, limit[0]), min(high, limit[1])
        values = np.clip(values, low, high)
    parts = np.arange(1, CANDIDATES + 1) / CANDIDATES
    lows, highs = low * parts, high * parts
    cut = _cut_off(-values, counts, -lows)[:, None] + _cut_off(values, counts, highs)
    step = (highs - lows[:, None]) / STEPS
    row, column = np.unravel_index(np.argmin(cut + step**2 / 12 * counts.sum()), cut.shape)
    return float(lows[row]), float(highs[column])


def _cut_off(values: np.ndarray, counts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Returns for each end the sum of squares of what values lie above it."""
    return np.maximum(values - ends[:, None], 0.0) ** 2 @ counts


def _count_values(content: bytes, tensors: Sequence[int], samples: Sequence[Sample]) -> dict[int, Histogram]:
    """Runs the samples twice: for the ends, then for what lies between."""
    histograms = {index: Histogram(0.0, 0.0) for index in tensors}
    for read in _runs(content, samples):
        for index, histogram in histograms.items():
            values = read(index)
            histogram.low = float(np.minimum(histogram.low, values.min()))  # NaN stays NaN
            histogram.high = float(np.maximum(histogram.high, values.max()))
    broken = [index for index, seen in histograms.items() if not max(-seen.low, seen.high) < _LARGEST]
    if broken:
        raise ExportError(
            f"Expected a network of finite numbers, got NaN or infinity in {len(broken)} of {len(histograms)} tensors. "
            "Do train it again: no file can be made of it."
        )
    alive = {index: histogram for index, histogram in histograms.items() if histogram.low < histogram.high}
    for read in _runs(content, samples):
        for index, histogram in alive.items():
            histogram.add(read(index))
    return histograms


def _runs(content: bytes, samples: Sequence[Sample]) -> Iterator:
    """Yields, a sample at a time, the function from a tensor's index to its values."""
    graph = Graph(content, keep_all=True)
    for sample in samples:
        graph.run({name: np.float32(sample[name]) for name in graph.input_shapes})
        yield graph.interpreter.get_tensor
