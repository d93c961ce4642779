"""Shared by all forms of RoI align: the sampling points of regions on a feature map, and the layer."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import keras
from keras import ops

from keras_lightdet.types import Config, Tensor

BORDERS = ("clamp", "zero")


class AxisSamples(NamedTuple):
    """Samples along one axis, each between two pixels; all are `[M, pool_size, samples]`."""

    lower: Tensor  # int32, index of the pixel at or before the sample, inside the map
    near: Tensor  # float32, weight of that pixel in linear interpolation
    far: Tensor  # float32, weight of the next pixel; 0 if it is outside the map


def sample_axis(
    low: Tensor, high: Tensor, size: Tensor | int, *, pool_size: int, samples: int, border: str = "clamp"
) -> AxisSamples:
    """Spreads `pool_size * samples` samples evenly over intervals: at 1/4 and 3/4 of each bin for two samples.

    Args:
        low: `[M]`, starts of the intervals, in pixels of the map; pixel `i` is at `i`.
        high: `[M]`, ends of the intervals.
        size: Length of the map, an integer or int32 `[M, 1]`.
        pool_size: Bins of an interval.
        samples: Samples of a bin.
        border: "clamp" = samples up to one pixel before the map take its first pixel, those from the last pixel to
            `size` take the last pixel, and others are zero (torchvision, Detectron). "zero" = the map is padded with
            zeros (the kernels of Light-Head R-CNN).

    Raises:
        ValueError: An unknown border, or a count below 1.
    """
    if border not in BORDERS:
        raise ValueError(f"Expected border to be one of {BORDERS}, got {border!r}.")
    if pool_size < 1 or samples < 1:
        raise ValueError(
            f"Expected pool_size and samples to be at least 1, got {pool_size!r} and {samples!r}. A number of samples "
            "that adapts to the region has no static shape."
        )
    steps = pool_size * samples
    fractions = ops.convert_to_tensor([(step + 0.5) / steps for step in range(steps)], "float32")
    position = low[:, None] + (high - low)[:, None] * fractions
    last = ops.cast(size, "float32") - 1.0
    inside = ops.clip(position, 0.0, last)
    lower = ops.cast(inside, "int32")  # rounds towards zero, which is down
    start = ops.cast(lower, "float32")
    if border == "clamp":
        valid = ops.cast(ops.logical_and(position >= -1.0, position <= last + 1.0), "float32")
        near, far = (1.0 - (inside - start)) * valid, (inside - start) * valid
    else:
        near = ops.relu(1.0 - ops.abs(position - start))
        far = ops.relu(1.0 - ops.abs(position - start - 1.0))
    shape = (-1, pool_size, samples)
    return AxisSamples(ops.reshape(lower, shape), ops.reshape(near, shape), ops.reshape(far, shape))


def roi_bounds(rois: Tensor, stride: Tensor | float, *, aligned: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns x_min, y_min, x_max, y_max, each `[M]`, of `rois` `[M, 4]` in pixels of a map of `stride`.

    `aligned` subtracts half a pixel, because pixel `i` of the image covers `i..i + 1` and pixel `i` of the map is at
    `i`. No gradient flows to the regions, as in the papers.
    """
    x_min, y_min, x_max, y_max = ops.unstack(ops.stop_gradient(ops.cast(rois, "float32")), 4, axis=-1)
    shift = 0.5 if aligned else 0.0
    return x_min / stride - shift, y_min / stride - shift, x_max / stride - shift, y_max / stride - shift


def batch_indices(rois: Tensor) -> Tensor:
    """Returns int32 `[B * R]`: the index of the image of each region of `rois` `[B, R, 4]`, flattened."""
    batch, count, _ = ops.shape(rois)
    images = ops.expand_dims(ops.arange(batch, dtype="int32"), -1)
    return ops.reshape(images + ops.zeros((1, count), "int32"), (-1,))


class RoILayer(keras.layers.Layer):
    """A function of features and regions as a layer. Regions stay float32 under any dtype policy.

    Args:
        options: Arguments of the function by name; they are also those of the subclass.
    """

    function: ClassVar[Callable[..., Tensor]]

    def __init__(self, options: Config, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        self.options = options

    def call(self, features: Any, rois: Tensor) -> Tensor:
        """Returns the features of each region, see the function."""
        return self.function(features, rois, **self.options)

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        return {**super().get_config(), **self.options}
