"""Adds a feature fusion of separable convolutions to the features of a backbone (Tan et al. 2020, section 3)."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import keras
from keras import layers, ops

from keras_lightdet.layers.conv import PADDINGS, NormSpec, activate, batch_norm
from keras_lightdet.layers.fusion_graphs import FusionGraph, FusionNode
from keras_lightdet.layers.resize import upsample_to_match
from keras_lightdet.types import Config, Tensor

METHODS = ("sum", "fast", "softmax")


def fuse(
    features: Mapping[str, keras.KerasTensor],
    graph: FusionGraph,
    *,
    levels: Sequence[str],
    width: int,
    repeats: int,
    method: str,
    activation: str,
    norm: NormSpec,
    name: str,
    padding: str = "same",
    use_bias: bool = True,
) -> dict[str, keras.KerasTensor]:
    """Adds the missing coarse levels, then the cell `repeats` times.

    A node fuses its resampled inputs and applies activation, separable 3x3 convolution and batch norm, in this order.
    An input with another number of channels passes a 1x1 convolution and batch norm first. Coarser maps are upsampled
    by nearest neighbor; finer ones are reduced by overlapping max pooling.

    Args:
        features: Maps `[B, H, W, C]` by level, fine to coarse; each half as large as the one before, rounded up.
        graph: The cell, see `fusion_graphs`.
        levels: Levels of the pyramid, fine to coarse: "P3", .. "P7". Those above the last feature are computed from it.
        width: Channels of every result.
        repeats: Number of cells.
        method: How nodes fuse their inputs: "sum", "fast" or "softmax", see `WeightedFusion`.
        activation: Keras name.
        norm: Momentum and epsilon of the batch norms.
        name: Prefix of the layers' names: `NAME_cell1_node5_conv`, ..
        padding: Of the max pooling, see `conv_bn_act`: on sides of even length "symmetric" windows begin one pixel
            earlier. It supports only steps of one level.
        use_bias: Whether convolutions have biases, as in the released code, although a batch norm follows.

    Returns:
        Maps `[B, H, W, width]` by level, fine to coarse.

    Raises:
        ValueError: If the method or the padding is unknown, or no feature is of these levels.
    """
    if method not in METHODS:
        raise ValueError(f"Expected method to be one of {METHODS}, got {method!r}.")
    if padding not in PADDINGS:
        raise ValueError(f"Expected padding to be one of {PADDINGS}, got {padding!r}.")
    maps = [features[level] for level in levels if level in features]
    if not maps:
        raise ValueError(f"Expected features of the levels {tuple(levels)}, got {tuple(features)}.")
    resample = partial(_resample, width=width, norm=norm, padding=padding, use_bias=use_bias)
    transform = partial(_transform, width=width, activation=activation, norm=norm, use_bias=use_bias)
    for level in levels[len(maps) :]:
        maps.append(resample(maps[-1], -1, None, name=f"{name}_{level.lower()}"))
    for cell in range(1, repeats + 1):
        maps = _cell(maps, graph, method, resample, transform, name=f"{name}_cell{cell}")
    return dict(zip(levels, maps, strict=True))


def _cell(
    inputs: Sequence[keras.KerasTensor],
    graph: FusionGraph,
    method: str,
    resample: Callable[..., keras.KerasTensor],
    transform: Callable[..., keras.KerasTensor],
    *,
    name: str,
) -> list[keras.KerasTensor]:
    """Adds the nodes and returns the last one of each level."""
    maps, map_levels = list(inputs), list(range(len(inputs)))
    for number, node in enumerate(graph, start=len(inputs)):
        prefix = f"{name}_node{number}"
        resampled = [
            resample(maps[source], map_levels[source] - node.level, inputs[node.level], name=f"{prefix}_in{source}")
            for source in node.inputs
        ]
        x = _fuse_maps(resampled, [map_levels[source] for source in node.inputs], node, method, name=prefix)
        maps.append(transform(x, name=prefix))
        map_levels.append(node.level)
    last = dict(zip(map_levels, maps, strict=True))
    return [last[level] for level in range(len(inputs))]


def _transform(
    x: keras.KerasTensor, *, width: int, activation: str, norm: NormSpec, use_bias: bool, name: str
) -> keras.KerasTensor:
    """Adds the layers of a node after the fusion."""
    x = activate(x, activation, name=f"{name}_act")
    x = layers.SeparableConv2D(width, 3, padding="same", use_bias=use_bias, name=f"{name}_conv")(x)
    return batch_norm(x, norm=norm, name=f"{name}_bn")


def _resample(
    x: keras.KerasTensor,
    steps: int,
    reference: keras.KerasTensor | None,
    *,
    width: int,
    norm: NormSpec,
    padding: str,
    use_bias: bool,
    name: str,
) -> keras.KerasTensor:
    """Returns a map of `width` channels, `steps` levels finer in the size of `reference`, or coarser if negative."""
    if x.shape[-1] != width:
        x = layers.Conv2D(width, 1, use_bias=use_bias, name=f"{name}_conv")(x)
        x = batch_norm(x, norm=norm, name=f"{name}_bn")
    if steps < 0:
        if padding == "symmetric":
            x, padding = _repeat_border(x, steps), "valid"
        return layers.MaxPooling2D(2**-steps + 1, 2**-steps, padding=padding, name=f"{name}_pool")(x)
    return upsample_to_match(x, reference, 2**steps, name=name) if steps else x


def _repeat_border(x: keras.KerasTensor, steps: int) -> keras.KerasTensor:
    """Pads a row or column on each side by repetition, which changes no maximum.

    PyTorch pads with minus infinity, which int8 cannot represent; the repeated values are in the same windows.
    """
    if steps != -1:
        raise ValueError('Expected a fusion whose maxima are one level apart with padding "symmetric". Take "same".')
    return ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="symmetric")


def _fuse_maps(
    maps: Sequence[keras.KerasTensor], map_levels: Sequence[int], node: FusionNode, method: str, *, name: str
) -> keras.KerasTensor:
    """Fuses maps of one size, which come from `map_levels`."""
    if node.gated:
        fine, coarse = sorted(range(2), key=lambda index: map_levels[index])
        gate = layers.GlobalMaxPooling2D(keepdims=True, name=f"{name}_gate_pool")(maps[coarse])
        gate = layers.Activation("sigmoid", name=f"{name}_gate")(gate)
        weighted = layers.Multiply(name=f"{name}_weigh")([maps[fine], gate])
        return layers.Add(name=f"{name}_add")([maps[coarse], weighted, *maps[2:]])
    if len(maps) == 1:
        return maps[0]
    if method == "sum":
        return layers.Add(name=f"{name}_add")(list(maps))
    return WeightedFusion(method, name=f"{name}_fusion")(list(maps))


@keras.saving.register_keras_serializable("keras_lightdet")
class WeightedFusion(layers.Layer):
    """Computes a learned weighted mean of maps of one shape (Tan et al. 2020, section 3.3).

    Args:
        method: "fast": `sum_i w_i x_i / (epsilon + sum_j w_j)` with `w = relu(weight)`; "softmax": the softmax of
            the weights.
        epsilon: Of "fast", to avoid division by zero.
    """

    def __init__(self, method: str = "fast", epsilon: float = 1e-4, **kwargs: Any):
        super().__init__(**kwargs)
        if method not in METHODS[1:]:
            raise ValueError(f"Expected method to be one of {METHODS[1:]}, got {method!r}.")
        self.method = method
        self.epsilon = epsilon

    def build(self, input_shapes: Sequence[tuple[int, ...]]) -> None:
        """Creates one weight per input, initially 1."""
        self.weight = self.add_weight(shape=(len(input_shapes),), initializer="ones", name="weight")

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        """Returns the weighted mean of the maps `[B, H, W, C]`."""
        if self.method == "softmax":
            shares = ops.softmax(self.weight)
        else:
            shares = ops.relu(self.weight)
            shares = shares / (ops.sum(shares) + self.epsilon)
        shares = ops.cast(shares, self.compute_dtype)
        return sum(x * shares[index] for index, x in enumerate(inputs))

    def compute_output_shape(self, input_shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """Returns the shape of the first input."""
        return input_shapes[0]

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "method": self.method, "epsilon": self.epsilon}
