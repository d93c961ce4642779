"""Position-sensitive RoI align: every bin of a region reads channels of its own (Dai et al. 2016, section 2.2)."""

import functools

import keras
from keras import ops

from keras_lightdet.layers.roi_sampling import AxisSamples, picture_of_each, region_ends, sample_axis

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
    x_min, y_min, x_max, y_max = region_ends(ops.reshape(rois, (-1, 4)), stride, aligned=aligned)
    y = sample_axis(y_min, y_max, height, pool_size=pool_size, samples=samples, border=border)
    x = sample_axis(x_min, x_max, width, pool_size=pool_size, samples=samples, border=border)
    # Row of the table = ((picture, bin row, bin column), y, x).
    bin_places = ops.arange(pool_size, dtype="int32") * (height * width)
    start = picture_of_each(rois) * (bins * height * width)
    row = y.lower * width + ops.expand_dims(start[:, None] + bin_places * pool_size, -1)
    column = x.lower + ops.expand_dims(bin_places, -1)
    table = _window_table(features, bins)
    pooled = _reduce_samples(table, y._replace(lower=row), x._replace(lower=column), reduce)
    return ops.cast(ops.reshape(pooled, (*ops.shape(rois)[:2], pool_size, pool_size, channels // bins)), features.dtype)


def _window_table(features, bins: int):
    """Lays the 2 x 2 pixels from every pixel on in one row, `[B * bins * H * W, 4 * A]`, bin by bin.

    One look-up then serves the four corners of a sample. With a look-up for each corner a file is as fast, but a step
    of training under XLA takes about twice as long.
    """
    _, height, width, channels = ops.shape(features)
    padded = ops.pad(features, ((0, 0), (0, 1), (0, 1), (0, 0)))
    corners = [padded[:, y : height + y, x : width + x] for y in (0, 1) for x in (0, 1)]
    windows = ops.reshape(ops.concatenate(corners, axis=-1), (-1, height * width, 4 * channels // bins, bins))
    return ops.reshape(ops.transpose(windows, (0, 3, 1, 2)), (-1, 4 * channels // bins))


def _reduce_samples(table, y: AxisSamples, x: AxisSamples, reduce: str):
    """Reduces the samples of each bin, float32 `[M, pool_size, pool_size, A]`; `lower` are parts of table rows."""
    samples, values = y.lower.shape[-1], []
    for row in range(samples):
        for column in range(samples):
            index = ops.expand_dims(y.lower[..., row], -1) + ops.expand_dims(x.lower[..., column], -2)
            window = ops.cast(ops.take(table, index, axis=0), "float32")
            top, bottom = ops.split(window, 2, axis=-1)
            near, far = (weight[:, :, None, row : row + 1] for weight in (y.near, y.far))
            left, right = ops.split(top * near + bottom * far, 2, axis=-1)
            near, far = (weight[:, None, :, column : column + 1] for weight in (x.near, x.far))
            values.append(left * near + right * far)
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
