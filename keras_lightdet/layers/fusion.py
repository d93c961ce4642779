"""Builds any fusion graph of separable convolutions over any backbone's features (Tan et al. 2020, section 3)."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import keras
from keras import layers, ops

from keras_lightdet.layers.conv import PADDINGS, NormSpec, activate, batch_norm
from keras_lightdet.layers.fusion_graphs import Graph, Node
from keras_lightdet.layers.resize import CropToMatch, NearestUpsample2D

METHODS = ("sum", "fast", "softmax")


def fuse(
    features: Mapping[str, keras.KerasTensor],
    graph: Graph,
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

    A node joins its inputs, brought to its size, and applies activation, separable 3x3 convolution and batch norm, in
    this order. An input of another number of channels goes through a 1x1 convolution and batch norm first; coarser maps
    are doubled, finer ones reduced by the maximum of overlapping windows.

    Args:
        features: Maps `[B, H, W, C]` by level, fine to coarse; each half as large as the one before, rounded up.
        graph: The cell, see `fusion_graphs`.
        levels: Which levels to mix, fine to coarse: "P3", .. "P7". Those past the last feature are made of it.
        width: Channels of every result.
        repeats: Cells in a row.
        method: How nodes join their inputs: "sum", "fast" or "softmax", see `WeightedFusion`.
        activation: Keras name.
        norm: Momentum and epsilon of the batch norms.
        name: Prefix of the layers' names: `NAME_cell1_node5_conv`, ..
        padding: Of the maxima, see `conv_bn_act`: on sides of even length "symmetric" windows begin a pixel earlier.
            It has steps of one level alone.
        use_bias: Whether convolutions have biases, as in the released code, although a batch norm follows.

    Returns:
        Maps `[B, H, W, width]` by level, fine to coarse.

    Raises:
        ValueError: If the method or the padding is none of these, or no feature is of these levels.
    """
    if method not in METHODS:
        raise ValueError(f"Expected method to be one of {METHODS}, got {method!r}.")
    if padding not in PADDINGS:
        raise ValueError(f"Expected padding to be one of {PADDINGS}, got {padding!r}.")
    maps = [features[level] for level in levels if level in features]
    if not maps:
        raise ValueError(f"Expected features of the levels {tuple(levels)}, got {tuple(features)}.")
    resample = partial(_resample, width=width, norm=norm, padding=padding, use_bias=use_bias)
    work = partial(_work, width=width, activation=activation, norm=norm, use_bias=use_bias)
    for level in levels[len(maps) :]:
        maps.append(resample(maps[-1], -1, None, name=f"{name}_{level.lower()}"))
    for cell in range(1, repeats + 1):
        maps = _cell(maps, graph, method, resample, work, name=f"{name}_cell{cell}")
    return dict(zip(levels, maps, strict=True))


def _cell(
    inputs: list, graph: Graph, method: str, resample: Callable, work: Callable, *, name: str
) -> list[keras.KerasTensor]:
    """The last node of each level."""
    maps, places = list(inputs), list(range(len(inputs)))
    for number, node in enumerate(graph, start=len(inputs)):
        prefix = f"{name}_node{number}"
        like = inputs[node.level]
        joined = [
            resample(maps[source], places[source] - node.level, like, name=f"{prefix}_in{source}")
            for source in node.inputs
        ]
        x = _join(joined, [places[source] for source in node.inputs], node, method, name=prefix)
        maps.append(work(x, name=prefix))
        places.append(node.level)
    last = dict(zip(places, maps, strict=True))
    return [last[level] for level in range(len(inputs))]


def _work(
    x: keras.KerasTensor, *, width: int, activation: str, norm: NormSpec, use_bias: bool, name: str
) -> keras.KerasTensor:
    """What a node does to what it has joined."""
    x = activate(x, activation, name=f"{name}_act")
    x = layers.SeparableConv2D(width, 3, padding="same", use_bias=use_bias, name=f"{name}_conv")(x)
    return batch_norm(x, norm=norm, name=f"{name}_bn")


def _resample(
    x: keras.KerasTensor,
    steps: int,
    like: keras.KerasTensor | None,
    *,
    width: int,
    norm: NormSpec,
    padding: str,
    use_bias: bool,
    name: str,
) -> keras.KerasTensor:
    """Brings a map to `width` channels, then `steps` levels finer (to the size of `like`), or coarser if negative."""
    if x.shape[-1] != width:
        x = layers.Conv2D(width, 1, use_bias=use_bias, name=f"{name}_conv")(x)
        x = batch_norm(x, norm=norm, name=f"{name}_bn")
    if steps < 0:
        border = padding
        if padding == "symmetric":
            x, border = _repeat_border(x, steps), "valid"
        return layers.MaxPooling2D(2**-steps + 1, 2**-steps, padding=border, name=f"{name}_pool")(x)
    if steps > 0:
        enlarged = NearestUpsample2D(2**steps, name=f"{name}_enlarge")(x)
        return CropToMatch(name=f"{name}_crop")(enlarged, like)
    return x


def _repeat_border(x: keras.KerasTensor, steps: int) -> keras.KerasTensor:
    """A row or column more on each side. PyTorch pads by minus infinity there, which int8 cannot tell; the border's own
    values are in the same windows, so that they change no maximum.
    """
    if steps != -1:
        raise ValueError('Expected a fusion whose maxima are one level apart with padding "symmetric". Take "same".')
    return ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="symmetric")


def _join(maps: list, places: list[int], node: Node, method: str, *, name: str) -> keras.KerasTensor:
    """Maps of one size to one map."""
    if node.gated:
        fine, coarse = sorted(range(2), key=lambda index: places[index])
        gate = layers.GlobalMaxPooling2D(keepdims=True, name=f"{name}_gate_pool")(maps[coarse])
        gate = layers.Activation("sigmoid", name=f"{name}_gate")(gate)
        weighed = layers.Multiply(name=f"{name}_weigh")([maps[fine], gate])
        return layers.Add(name=f"{name}_add")([maps[coarse], weighed, *maps[2:]])
    if len(maps) == 1:
        return maps[0]
    if method == "sum":
        return layers.Add(name=f"{name}_add")(maps)
    return WeightedFusion(method, name=f"{name}_fusion")(maps)


@keras.saving.register_keras_serializable("keras_lightdet")
class WeightedFusion(layers.Layer):
    """Joins maps of one shape by a learned share of each (Tan et al. 2020, section 3.3).

    Args:
        method: "fast": `sum_i w_i x_i / (epsilon + sum_j w_j)` with `w = relu(weight)`; "softmax": the softmax of
            the weights.
        epsilon: Of "fast", so that it divides by no zero.
    """

    def __init__(self, method: str = "fast", epsilon: float = 1e-4, **kwargs):
        super().__init__(**kwargs)
        if method not in METHODS[1:]:
            raise ValueError(f"Expected method to be one of {METHODS[1:]}, got {method!r}.")
        self.method = method
        self.epsilon = epsilon

    def build(self, input_shapes):
        """Makes one weight an input, 1 at the start."""
        self.weight = self.add_weight(shape=(len(input_shapes),), initializer="ones", name="weight")

    def call(self, inputs):
        """Returns the mean of the maps `[B, H, W, C]`, weighed."""
        if self.method == "softmax":
            shares = ops.softmax(self.weight)
        else:
            shares = ops.relu(self.weight)
            shares = shares / (ops.sum(shares) + self.epsilon)
        shares = ops.cast(shares, self.compute_dtype)
        return sum(x * shares[index] for index, x in enumerate(inputs))

    def compute_output_shape(self, input_shapes):
        """All have the same."""
        return input_shapes[0]

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "method": self.method, "epsilon": self.epsilon}
