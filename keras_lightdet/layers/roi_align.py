"""RoI align: features of regions by bilinear sampling, from one map or from a pyramid (He et al. 2017, section 3)."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_lightdet.layers.roi_sampling import AxisSamples, RoILayer, batch_indices, roi_bounds, sample_axis
from keras_lightdet.types import Tensor

_LEVEL_EPSILON = 1e-6  # torchvision's tolerance for the rounding of the square root in the size of a region


def roi_align(
    features: Tensor, rois: Tensor, pool_size: int, stride: float, *, sampling_ratio: int = 2, aligned: bool = False
) -> Tensor:
    """Averages `sampling_ratio`^2 bilinear samples in each of `pool_size`^2 bins of each region.

    Args:
        features: `[B, H, W, C]`.
        rois: `[B, R, 4]`, xyxy pixels of the network input; padding may be all zeros. No gradient flows to them.
        pool_size: Bins along each side.
        stride: Stride of `features` in pixels of the network input.
        sampling_ratio: Samples along each side of a bin.
        aligned: Whether regions are shifted by half a pixel of the map (Detectron2). Otherwise, as in the first
            Detectron, the width and height of a region are at least one pixel of the map.

    Returns:
        `[B, R, pool_size, pool_size, C]` of the features' dtype; samples outside the map count as zero.

    Raises:
        ValueError: `pool_size` or `sampling_ratio` below 1.
    """
    _, height, width, channels = ops.shape(features)
    table = ops.reshape(features, (-1, channels))
    start = batch_indices(rois) * (height * width)
    return _pool(
        rois, stride, table, start, height, width, pool_size=pool_size, sampling_ratio=sampling_ratio, aligned=aligned
    )


def multilevel_roi_align(
    pyramid: Mapping[str, Tensor],
    rois: Tensor,
    pool_size: int,
    *,
    sampling_ratio: int = 2,
    aligned: bool = False,
    canonical_level: int = 4,
    canonical_size: float = 224.0,
) -> Tensor:
    """Applies RoI align to the level of each region: `floor(k0 + log2(sqrt(w h) / s0))` (Lin et al. 2017, eq. 1).

    Args:
        pyramid: Maps `[B, H_l, W_l, C]` by level, such as `{"P2": .., "P3": .., "P4": .., "P5": ..}`, fine to coarse
            without gaps. The stride of "P2" is 2^2 pixels, and so on.
        rois, pool_size, sampling_ratio, aligned: See `roi_align`.
        canonical_level: k0, the level of regions of the canonical size.
        canonical_size: s0, pixels.

    Returns:
        `[B, R, pool_size, pool_size, C]`; regions too small or too large for all levels use the nearest one.

    Raises:
        ValueError: Levels that are not consecutive, or a count below 1.
    """
    levels = [int(name.removeprefix("P")) for name in pyramid]
    if levels != list(range(levels[0], levels[0] + len(levels))):
        raise ValueError(f"Expected levels from fine to coarse without gaps, such as P2, P3, P4, got {list(pyramid)}.")
    shapes = [ops.shape(level) for level in pyramid.values()]
    counts, channels = [shape[1] * shape[2] for shape in shapes], shapes[0][-1]
    level_indices = _level_indices(ops.reshape(rois, (-1, 4)), levels, canonical_level, canonical_size)

    def of_each_roi(values: Sequence[Any]) -> Tensor:
        return ops.take(ops.stack(values), level_indices)

    height, width = (of_each_roi([shape[axis] for shape in shapes])[:, None] for axis in (1, 2))
    start = of_each_roi([sum(counts[:index]) for index in range(len(counts))])
    start = start + batch_indices(rois) * sum(counts)
    stride = of_each_roi([2.0**level for level in levels])
    flat = [ops.reshape(level, (-1, count, channels)) for level, count in zip(pyramid.values(), counts, strict=True)]
    table = ops.reshape(ops.concatenate(flat, axis=1), (-1, channels))
    return _pool(
        rois, stride, table, start, height, width, pool_size=pool_size, sampling_ratio=sampling_ratio, aligned=aligned
    )


def _level_indices(rois: Tensor, levels: Sequence[int], canonical_level: int, canonical_size: float) -> Tensor:
    """Returns the index in `levels` of each region, int32 `[M]`.

    It is computed by comparisons, because the rounding of a logarithm differs between runtimes.
    """
    x_min, y_min, x_max, y_max = ops.unstack(ops.stop_gradient(ops.cast(rois, "float32")), 4, axis=-1)
    size = ops.sqrt(ops.relu(x_max - x_min) * ops.relu(y_max - y_min))
    index = ops.zeros_like(size, dtype="int32")
    for level in levels[1:]:
        bound = canonical_size * 2.0 ** (level - canonical_level - _LEVEL_EPSILON)
        index = index + ops.cast(size >= bound, "int32")
    return index


def _pool(
    rois: Tensor,
    stride: Tensor | float,
    table: Tensor,
    start: Tensor,
    height: Tensor,
    width: Tensor,
    *,
    pool_size: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Returns `[B, R, pool_size, pool_size, C]` of the table's dtype; see `roi_align` for the other arguments.

    Args:
        stride: Of a region's map, `[M]` or a number.
        table: `[P, C]`, the pixels of all maps.
        start: Row of the first pixel of a region's map in the table, `[M]`.
        height, width: Size of a region's map, `[M, 1]` or scalars.
    """
    x_min, y_min, x_max, y_max = roi_bounds(ops.reshape(rois, (-1, 4)), stride, aligned=aligned)
    if not aligned:
        x_max, y_max = x_min + ops.maximum(x_max - x_min, 1.0), y_min + ops.maximum(y_max - y_min, 1.0)
    y = sample_axis(y_min, y_max, height, pool_size=pool_size, samples=sampling_ratio)
    x = sample_axis(x_min, x_max, width, pool_size=pool_size, samples=sampling_ratio)
    pooled = _average_samples(table, start[:, None], height, width, y, x)
    return ops.reshape(pooled, (*ops.shape(rois)[:2], pool_size, pool_size, table.shape[-1]))


def _average_samples(
    table: Tensor, start: Tensor, height: Tensor, width: Tensor, y: AxisSamples, x: AxisSamples
) -> Tensor:
    """Returns the means of the bilinear samples of each bin, `[M, pool_size, pool_size, C]` of the table's dtype.

    It adds one corner of one sample at a time, so that no tensor is larger than the result.
    """
    pooled: Tensor = 0.0
    samples = y.lower.shape[-1]
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
class RoIAlign(RoILayer):
    """`roi_align` as a layer: `layer(features, rois)`."""

    function = staticmethod(roi_align)

    def __init__(self, pool_size: int, stride: float, *, sampling_ratio: int = 2, aligned: bool = False, **kwargs: Any):
        options = {"pool_size": pool_size, "stride": stride, "sampling_ratio": sampling_ratio, "aligned": aligned}
        super().__init__(options, **kwargs)


@keras.saving.register_keras_serializable("keras_lightdet")
class MultilevelRoIAlign(RoILayer):
    """`multilevel_roi_align` as a layer: `layer(pyramid, rois)`."""

    function = staticmethod(multilevel_roi_align)

    def __init__(
        self,
        pool_size: int,
        *,
        sampling_ratio: int = 2,
        aligned: bool = False,
        canonical_level: int = 4,
        canonical_size: float = 224.0,
        **kwargs: Any,
    ):
        options = {"pool_size": pool_size, "sampling_ratio": sampling_ratio, "aligned": aligned}
        super().__init__({**options, "canonical_level": canonical_level, "canonical_size": canonical_size}, **kwargs)
