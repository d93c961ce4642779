"""Where the samples of a region lie on a feature map: what all forms of RoI align share."""

from typing import NamedTuple

import keras
from keras import ops

BORDERS = ("clamp", "zero")


class AxisSamples(NamedTuple):
    """Samples along one axis, each between two pixels; all are `[M, pool_size, samples]`.

    Attributes:
        lower: Int32, the pixel at or before the sample, inside the map.
        near: Float32, the weight of that pixel in linear interpolation.
        far: Float32, the weight of the pixel after it; zero where that is known to lie outside the map.
    """

    lower: keras.KerasTensor
    near: keras.KerasTensor
    far: keras.KerasTensor


def sample_axis(
    low: keras.KerasTensor,
    high: keras.KerasTensor,
    size: keras.KerasTensor | int,
    *,
    pool_size: int,
    samples: int,
    border: str = "clamp",
) -> AxisSamples:
    """Spreads `pool_size * samples` samples evenly over intervals: at 1/4 and 3/4 of each bin for two samples.

    Args:
        low: `[M]`, where the intervals start, in pixels of the map; pixel `i` stands at `i`.
        high: `[M]`, where they end.
        size: Length of the map, an integer or int32 `[M]`.
        pool_size: Bins of an interval.
        samples: Samples of a bin.
        border: "clamp" = samples up to one pixel before the map take its first pixel, those from the last pixel to
            `size` take the last one, and others are zero (torchvision, Detectron). "zero" = the map goes on with
            zeros (the kernels of Light-Head R-CNN).

    Raises:
        ValueError: An unknown border, or a count below 1.
    """
    if border not in BORDERS:
        raise ValueError(f"Expected border to be one of {BORDERS}, got {border!r}.")
    if pool_size < 1 or samples < 1:
        raise ValueError(
            f"Expected pool_size and samples to be at least 1, got {pool_size!r} and {samples!r}. A count that adapts "
            "to the region has no static shape."
        )
    steps = pool_size * samples
    places = ops.convert_to_tensor([(step + 0.5) / steps for step in range(steps)], "float32")
    position = low[:, None] + (high - low)[:, None] * places
    last = ops.cast(size, "float32") - 1.0
    last = ops.expand_dims(last, -1) if len(last.shape) else last
    inside = ops.clip(position, 0.0, last)
    lower = ops.cast(inside, "int32")  # towards zero, which is down
    start = ops.cast(lower, "float32")
    if border == "clamp":
        seen = ops.cast(ops.logical_and(position >= -1.0, position <= last + 1.0), "float32")
        near, far = (1.0 - (inside - start)) * seen, (inside - start) * seen
    else:
        near = ops.relu(1.0 - ops.abs(position - start))
        far = ops.relu(1.0 - ops.abs(position - start - 1.0))
    shape = (-1, pool_size, samples)
    return AxisSamples(ops.reshape(lower, shape), ops.reshape(near, shape), ops.reshape(far, shape))


def roi_bounds(rois: keras.KerasTensor, stride: keras.KerasTensor | float, *, aligned: bool) -> tuple:
    """Returns x_min, y_min, x_max, y_max, each `[M]`, of `rois [M, 4]` in pixels of a map of `stride`.

    `aligned` moves them by half a pixel, so that what is continuous in the image (pixel `i` covers `i..i + 1`)
    meets the map's pixels at their middles. The gradient to the regions is cut, as in the papers.
    """
    x_min, y_min, x_max, y_max = ops.unstack(ops.stop_gradient(ops.cast(rois, "float32")), 4, axis=-1)
    shift = 0.5 if aligned else 0.0
    return tuple(side / stride - shift for side in (x_min, y_min, x_max, y_max))


def batch_indices(rois: keras.KerasTensor) -> keras.KerasTensor:
    """Returns int32 `[B * R]`: the image that each region of `rois [B, R, 4]`, flattened, belongs to."""
    batch, count, _ = ops.shape(rois)
    images = ops.expand_dims(ops.arange(batch, dtype="int32"), -1)
    return ops.reshape(images + ops.zeros((1, count), "int32"), (-1,))
