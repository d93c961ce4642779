"""RoI align: features of regions by bilinear sampling, from one map or from a pyramid (He et al. 2017, section 3)."""

from collections.abc import Mapping

import keras
from keras import ops

from keras_lightdet.layers.roi_sampling import AxisSamples, batch_indices, roi_bounds, sample_axis

# The sides of squares on the bound between two levels come out of a root: torchvision's allowance for its rounding.
_LEVEL_EPSILON = 1e-6


def roi_align(
    features: keras.KerasTensor,
    rois: keras.KerasTensor,
    pool_size: int,
    stride: float,
    *,
    sampling_ratio: int = 2,
    aligned: bool = False,
) -> keras.KerasTensor:
    """Averages `sampling_ratio`^2 bilinear samples in each of `pool_size`^2 bins of each region.

    Args:
        features: `[B, H, W, C]`.
        rois: `[B, R, 4]`, xyxy pixels of the network input; padding may be all zeros. No gradient flows to them.
        pool_size: Bins along each side.
        stride: Pixels of the network input from one pixel of `features` to the next.
        sampling_ratio: Samples along each side of a bin.
        aligned: Whether regions are moved by half a pixel of the map (Detectron2). Without, as in the first
            Detectron, a region is at least one pixel of the map wide and high.

    Returns:
        `[B, R, pool_size, pool_size, C]` of the features' dtype; samples outside the map count as zero.

    Raises:
        ValueError: `pool_size` or `sampling_ratio` below 1.
    """
    _, height, width, channels = ops.shape(features)
    ends = _at_least_one_pixel(roi_bounds(ops.reshape(rois, (-1, 4)), stride, aligned=aligned), aligned)
    x_min, y_min, x_max, y_max = ends
    y = sample_axis(y_min, y_max, height, pool_size=pool_size, samples=sampling_ratio)
    x = sample_axis(x_min, x_max, width, pool_size=pool_size, samples=sampling_ratio)
    start = batch_indices(rois) * (height * width)
    table = ops.reshape(features, (-1, channels))
    pooled = _average_samples(table, start[:, None], height, width, y, x)
    return ops.reshape(pooled, (*ops.shape(rois)[:2], pool_size, pool_size, channels))


def multilevel_roi_align(
    pyramid: Mapping[str, keras.KerasTensor],
    rois: keras.KerasTensor,
    pool_size: int,
    *,
    sampling_ratio: int = 2,
    aligned: bool = False,
    canonical_level: int = 4,
    canonical_size: float = 224.0,
) -> keras.KerasTensor:
    """Samples each region on the level of its size: `floor(k0 + log2(sqrt(w h) / s0))` (Lin et al. 2017, eq. 1).

    Args:
        pyramid: Maps `[B, H_l, W_l, C]` by level, such as `{"P2": .., "P3": .., "P4": .., "P5": ..}`, fine to coarse
            without gaps. The stride of "P2" is 2^2 pixels, and so on.
        rois: See `roi_align`.
        pool_size: See `roi_align`.
        sampling_ratio: See `roi_align`.
        aligned: See `roi_align`.
        canonical_level: k0, the level of regions of the canonical size.
        canonical_size: s0, pixels.

    Returns:
        `[B, R, pool_size, pool_size, C]`; regions too small or too large for all levels use the nearest one.

    Raises:
        ValueError: Levels that do not follow one another, or a count below 1.
    """
    levels = [int(name.removeprefix("P")) for name in pyramid]
    if levels != list(range(levels[0], levels[0] + len(levels))):
        raise ValueError(f"Expected levels from fine to coarse without gaps, such as P2, P3, P4, got {list(pyramid)}.")
    shapes = [ops.shape(level) for level in pyramid.values()]
    channels, flat_rois = shapes[0][-1], ops.reshape(rois, (-1, 4))
    place = _level_of_each(flat_rois, levels, canonical_level, canonical_size)

    def of_each(values):
        return ops.take(ops.stack(values), place)

    height, width = (of_each([shape[axis] for shape in shapes]) for axis in (1, 2))
    counts = [shape[1] * shape[2] for shape in shapes]
    start = of_each([sum(counts[:index]) for index in range(len(counts))])
    start = start + batch_indices(rois) * sum(counts)
    ends = roi_bounds(flat_rois, of_each([2.0**level for level in levels]), aligned=aligned)
    x_min, y_min, x_max, y_max = _at_least_one_pixel(ends, aligned)
    y = sample_axis(y_min, y_max, height, pool_size=pool_size, samples=sampling_ratio)
    x = sample_axis(x_min, x_max, width, pool_size=pool_size, samples=sampling_ratio)
    flat = [ops.reshape(level, (-1, count, channels)) for level, count in zip(pyramid.values(), counts, strict=True)]
    table = ops.reshape(ops.concatenate(flat, axis=1), (-1, channels))
    pooled = _average_samples(table, start[:, None], height[:, None], width[:, None], y, x)
    return ops.reshape(pooled, (*ops.shape(rois)[:2], pool_size, pool_size, channels))


def _level_of_each(rois, levels: list[int], canonical_level: int, canonical_size: float):
    """Places `[M]` in `levels`, by comparisons: the logarithm's rounding would differ between runtimes."""
    x_min, y_min, x_max, y_max = ops.unstack(ops.stop_gradient(ops.cast(rois, "float32")), 4, axis=-1)
    side = ops.sqrt(ops.relu(x_max - x_min) * ops.relu(y_max - y_min))
    place = ops.zeros_like(side, dtype="int32")
    for level in levels[1:]:
        bound = canonical_size * 2.0 ** (level - canonical_level - _LEVEL_EPSILON)
        place = place + ops.cast(side >= bound, "int32")
    return place


def _at_least_one_pixel(ends: tuple, aligned: bool) -> tuple:
    if aligned:
        return ends
    x_min, y_min, x_max, y_max = ends
    return x_min, y_min, x_min + ops.maximum(x_max - x_min, 1.0), y_min + ops.maximum(y_max - y_min, 1.0)


def _average_samples(table, start, height, width, y: AxisSamples, x: AxisSamples):
    """Bilinear samples of `table [P, C]`, averaged over bins: `[M, pool_size, pool_size, C]` of the table's dtype.

    One corner of one sample at a time, so that the largest tensor is as large as the answer. `start`, `height` and
    `width` are `[M, 1]` or scalars: where a region's map starts in the table, and its sides.
    """
    pooled, samples = 0.0, y.lower.shape[-1]
    for row_sample in range(samples):
        low = y.lower[..., row_sample]
        rows = ((low, y.near[..., row_sample]), (ops.minimum(low + 1, height - 1), y.far[..., row_sample]))
        for column_sample in range(samples):
            low = x.lower[..., column_sample]
            columns = ((low, x.near[..., column_sample]), (ops.minimum(low + 1, width - 1), x.far[..., column_sample]))
            for row, row_weight in rows:
                for column, column_weight in columns:
                    index = ops.expand_dims(start + row * width, -1) + ops.expand_dims(column, -2)
                    weight = ops.expand_dims(row_weight, -1) * ops.expand_dims(column_weight / samples**2, -2)
                    value = ops.cast(ops.take(table, index, axis=0), "float32")
                    pooled = pooled + value * ops.expand_dims(weight, -1)
    return ops.cast(pooled, table.dtype)


@keras.saving.register_keras_serializable("keras_lightdet")
class RoIAlign(keras.layers.Layer):
    """`roi_align` in a functional graph: `layer(features, rois)`. Pixels stay float32 under any policy."""

    def __init__(self, pool_size: int, stride: float, *, sampling_ratio: int = 2, aligned: bool = False, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.pool_size, self.stride, self.sampling_ratio, self.aligned = pool_size, stride, sampling_ratio, aligned

    def call(self, features, rois):
        """Returns `[B, R, pool_size, pool_size, C]`, see `roi_align`."""
        return roi_align(
            features, rois, self.pool_size, self.stride, sampling_ratio=self.sampling_ratio, aligned=self.aligned
        )

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        own = {key: getattr(self, key) for key in ("pool_size", "stride", "sampling_ratio", "aligned")}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("keras_lightdet")
class MultilevelRoIAlign(keras.layers.Layer):
    """`multilevel_roi_align` in a functional graph: `layer(pyramid, rois)`. Pixels stay float32 under any policy."""

    def __init__(
        self,
        pool_size: int,
        *,
        sampling_ratio: int = 2,
        aligned: bool = False,
        canonical_level: int = 4,
        canonical_size: float = 224.0,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        self.pool_size, self.sampling_ratio, self.aligned = pool_size, sampling_ratio, aligned
        self.canonical_level, self.canonical_size = canonical_level, canonical_size

    def call(self, pyramid, rois):
        """Returns `[B, R, pool_size, pool_size, C]`, see `multilevel_roi_align`."""
        return multilevel_roi_align(pyramid, rois, **self._own())

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), **self._own()}

    def _own(self) -> dict:
        names = ("pool_size", "sampling_ratio", "aligned", "canonical_level", "canonical_size")
        return {key: getattr(self, key) for key in names}
