"""Position-sensitive RoI align: each bin of a region pools its own channels (Dai et al. 2016, section 2.2)."""

import functools
from typing import Any

import keras
from keras import ops

from keras_lightdet.layers.roi_sampling import AxisSamples, RoILayer, batch_indices, roi_bounds, sample_axis
from keras_lightdet.types import Tensor

REDUCTIONS = ("mean", "max")


def ps_roi_align(
    features: Tensor,
    rois: Tensor,
    pool_size: int,
    stride: float,
    *,
    samples: int = 2,
    reduce: str = "mean",
    aligned: bool = False,
    border: str = "clamp",
) -> Tensor:
    """Reduces `samples`^2 bilinear samples in each of `pool_size`^2 bins of each region, from the bin's own channels.

    torchvision's `ps_roi_align` is `reduce="mean", aligned=True, border="clamp"`. The kernels that the authors of
    Light-Head R-CNN published are `reduce="max", aligned=False, border="zero"`.

    Args:
        features: `[B, H, W, A * pool_size^2]`; channel `(a * pool_size + i) * pool_size + j` is output `a` of the
            bin in row `i` and column `j`.
        rois: `[B, R, 4]`, xyxy pixels of the network input; padding may be all zeros. No gradient flows to them.
        pool_size: Bins along each side.
        stride: Stride of `features` in pixels of the network input.
        samples: Samples along each side of a bin.
        reduce: "mean" or "max" over a bin's samples.
        aligned: Whether regions are shifted by half a pixel of the map.
        border: "clamp" or "zero", see `sample_axis`.

    Returns:
        `[B, R, pool_size, pool_size, A]` of the features' dtype.

    Raises:
        ValueError: Channels that are not a multiple of the bins, an unknown reduction or border, a count below 1.
    """
    if reduce not in REDUCTIONS:
        raise ValueError(f"Expected reduce to be one of {REDUCTIONS}, got {reduce!r}.")
    bins, channels = pool_size**2, features.shape[-1]
    if channels % bins:
        raise ValueError(f"Expected a multiple of {bins} channels for {pool_size} x {pool_size} bins, got {channels}.")
    _, height, width, _ = ops.shape(features)
    x_min, y_min, x_max, y_max = roi_bounds(ops.reshape(rois, (-1, 4)), stride, aligned=aligned)
    y = sample_axis(y_min, y_max, height, pool_size=pool_size, samples=samples, border=border)
    x = sample_axis(x_min, x_max, width, pool_size=pool_size, samples=samples, border=border)
    # Rows of the table are ordered by image, bin row, bin column, y, x, with one y more than the map has.
    bin_starts = ops.arange(pool_size, dtype="int32") * ((height + 1) * width)
    start = batch_indices(rois) * (bins * (height + 1) * width)
    row = y.lower * width + ops.expand_dims(start[:, None] + bin_starts * pool_size, -1)
    column = x.lower + ops.expand_dims(bin_starts, -1)
    table = _pair_table(features, bins)
    pooled = _reduce_samples(table, width, y._replace(lower=row), x._replace(lower=column), reduce)
    return ops.cast(ops.reshape(pooled, (*ops.shape(rois)[:2], pool_size, pool_size, channels // bins)), features.dtype)


def _pair_table(features: Tensor, bins: int) -> Tensor:
    """Returns each pixel concatenated with its right neighbor, `[B * bins * (H + 1) * W, 2 * A]`, ordered by bin.

    The four corners of a sample then need two look-ups. A table of all four corners is twice as large and slower in a
    .tflite; a look-up per corner doubles the duration of a training step under XLA.
    """
    _, height, width, channels = ops.shape(features)
    padded = ops.pad(features, ((0, 0), (0, 1), (0, 1), (0, 0)))
    pairs = ops.concatenate([padded[:, :, :width], padded[:, :, 1:]], axis=-1)
    pairs = ops.reshape(pairs, (-1, (height + 1) * width, 2 * channels // bins, bins))
    return ops.reshape(ops.transpose(pairs, (0, 3, 1, 2)), (-1, 2 * channels // bins))


def _reduce_samples(table: Tensor, width: Tensor, y: AxisSamples, x: AxisSamples, reduce: str) -> Tensor:
    """Reduces the samples of each bin, float32 `[M * pool_size^2, A]`; table rows are sums of a `y.lower` and a
    `x.lower`.

    CPUs are slow at a last axis of A values. All products are therefore over whole rows of bins, and a matrix of zeros
    and ones adds the two pixels of a pair (which a GPU may round as it rounds convolutions).
    """
    _, pool_size, samples = y.lower.shape
    pair = table.shape[-1]
    run, outputs = pool_size * pair, pair // 2
    add_pair = ops.tile(ops.eye(outputs, dtype="float32"), (2, 1))
    column_weights = [
        ops.stack([x.near[..., column], x.far[..., column]], axis=-1)[..., None] * ops.ones(outputs, dtype="float32")
        for column in range(samples)
    ]
    values = []
    for row in range(samples):
        near, far = (weight[:, :, row : row + 1] for weight in (y.near, y.far))
        for column in range(samples):
            index = ops.expand_dims(y.lower[..., row], -1) + ops.expand_dims(x.lower[..., column], -2)
            top, bottom = (
                ops.reshape(ops.cast(ops.take(table, rows, axis=0), "float32"), (-1, pool_size, run))
                for rows in (index, index + width)
            )
            weighted = (top * near + bottom * far) * ops.reshape(column_weights[column], (-1, 1, run))
            values.append(ops.matmul(ops.reshape(weighted, (-1, pair)), add_pair))
    if reduce == "max":
        return functools.reduce(ops.maximum, values)
    return functools.reduce(ops.add, values) / samples**2


@keras.saving.register_keras_serializable("keras_lightdet")
class PSRoIAlign(RoILayer):
    """`ps_roi_align` as a layer: `layer(features, rois)`."""

    function = staticmethod(ps_roi_align)

    def __init__(
        self,
        pool_size: int,
        stride: float,
        *,
        samples: int = 2,
        reduce: str = "mean",
        aligned: bool = False,
        border: str = "clamp",
        **kwargs: Any,
    ):
        options = {"pool_size": pool_size, "stride": stride, "samples": samples, "reduce": reduce}
        super().__init__({**options, "aligned": aligned, "border": border}, **kwargs)
