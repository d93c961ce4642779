"""Position-sensitive RoI align: every bin of a region reads channels of its own (Dai et al. 2016, section 2.2)."""

import functools

import keras
from keras import ops

from keras_lightdet.layers.roi_sampling import AxisSamples, batch_indices, roi_bounds, sample_axis

REDUCTIONS = ("mean", "max")


def ps_roi_align(
    features: keras.KerasTensor,
    rois: keras.KerasTensor,
    pool_size: int,
    stride: float,
    *,
    samples: int = 2,
    reduce: str = "mean",
    aligned: bool = False,
    border: str = "clamp",
) -> keras.KerasTensor:
    """Reduces `samples`^2 bilinear samples in each of `pool_size`^2 bins of each region, each bin from its channels.

    torchvision's `ps_roi_align` is `reduce="mean", aligned=True, border="clamp"`. The kernels that the authors of
    Light-Head R-CNN published are `reduce="max", aligned=False, border="zero"`.

    Args:
        features: `[B, H, W, A * pool_size^2]`; channel `(a * pool_size + i) * pool_size + j` serves output `a` in the
            bin of row `i` and column `j`.
        rois: `[B, R, 4]`, xyxy pixels of the network input; padding may be all zeros. No gradient flows to them.
        pool_size: Bins along each side.
        stride: Pixels of the network input from one pixel of `features` to the next.
        samples: Samples along each side of a bin.
        reduce: "mean" or "max" over a bin's samples.
        aligned: Whether regions are moved by half a pixel of the map.
        border: "clamp" or "zero", see `sample_axis`.

    Returns:
        `[B, R, pool_size, pool_size, A]` of the features' dtype.

    Raises:
        ValueError: Channels that do not divide among the bins, an unknown reduction or border, a count below 1.
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
    # Row of the table = ((image, bin row, bin column), y, x), with one y more than the map has.
    bin_places = ops.arange(pool_size, dtype="int32") * ((height + 1) * width)
    start = batch_indices(rois) * (bins * (height + 1) * width)
    row = y.lower * width + ops.expand_dims(start[:, None] + bin_places * pool_size, -1)
    column = x.lower + ops.expand_dims(bin_places, -1)
    table = _pair_table(features, bins)
    pooled = _reduce_samples(table, width, y._replace(lower=row), x._replace(lower=column), reduce)
    return ops.cast(ops.reshape(pooled, (*ops.shape(rois)[:2], pool_size, pool_size, channels // bins)), features.dtype)


def _pair_table(features, bins: int):
    """Lays every pixel and the next of its row side by side, `[B * bins * (H + 1) * W, 2 * A]`, bin by bin.

    Two look-ups then serve the four corners of a sample. One in a table of all four corners takes longer in a file,
    where the table is twice as large; a look-up for each corner doubles a step of training under XLA.
    """
    _, height, width, channels = ops.shape(features)
    padded = ops.pad(features, ((0, 0), (0, 1), (0, 1), (0, 0)))
    pairs = ops.concatenate([padded[:, :, :width], padded[:, :, 1:]], axis=-1)
    pairs = ops.reshape(pairs, (-1, (height + 1) * width, 2 * channels // bins, bins))
    return ops.reshape(ops.transpose(pairs, (0, 3, 1, 2)), (-1, 2 * channels // bins))


def _reduce_samples(table, width, y: AxisSamples, x: AxisSamples, reduce: str):
    """Reduces the samples of each bin, float32 `[M * pool_size^2, A]`; `lower` are parts of table rows.

    CPUs are slow at a last axis of A numbers. A row of bins is therefore one run of numbers in all products, and the
    two pixels of a pair are added by a product with zeros and ones (which a GPU may round as it does convolutions).
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
class PSRoIAlign(keras.layers.Layer):
    """`ps_roi_align` in a functional graph: `layer(features, rois)`. Pixels stay float32 under any policy."""

    def __init__(
        self,
        pool_size: int,
        stride: float,
        *,
        samples: int = 2,
        reduce: str = "mean",
        aligned: bool = False,
        border: str = "clamp",
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        self.pool_size, self.stride, self.samples = pool_size, stride, samples
        self.reduce, self.aligned, self.border = reduce, aligned, border

    def call(self, features, rois):
        """Returns `[B, R, pool_size, pool_size, A]`, see `ps_roi_align`."""
        return ps_roi_align(features, rois, **self._own())

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), **self._own()}

    def _own(self) -> dict:
        names = ("pool_size", "stride", "samples", "reduce", "aligned", "border")
        return {key: getattr(self, key) for key in names}
