"""The inverted residual (Sandler et al. 2018), with what EfficientNet and mobile SpineNet add to it."""

from typing import NamedTuple

import keras
from keras import layers

from keras_lightdet.layers.conv import NORM, NormSpec, activate, conv_bn_act, depthwise_bn_act, he_normal

MULTIPLE = 8  # of all channels


class SqueezeExcite(NamedTuple):
    """SqueezeExcite-and-excitation (Hu et al. 2018) inside a block.

    Attributes:
        share: Channels inside it over those the block is given.
        activation: Between its two convolutions; Keras name.
        gate: What weighs the channels; Keras name.
    """

    share: float
    activation: str
    gate: str


def round_width(channels: float) -> int:
    """Rounds to the nearest multiple of 8, or to the next above where that would lose more than a tenth."""
    rounded = max(MULTIPLE, int(channels + MULTIPLE / 2) // MULTIPLE * MULTIPLE)
    return rounded + MULTIPLE if rounded < 0.9 * channels else rounded


def inverted_residual(
    x: keras.KerasTensor,
    width: int,
    kernel_size: int = 3,
    strides: int = 1,
    *,
    expansion: int,
    activation: str,
    name: str,
    squeeze: SqueezeExcite | None = None,
    drop_path_rate: float = 0.0,
    padding: str = "same",
    norm: NormSpec = NORM,
) -> keras.KerasTensor:
    """Adds 1x1 to widen, depthwise, linear 1x1 to narrow; the shortcut joins the narrow ends (fig. 3b).

    Args:
        x: `[B, H, W, C]`.
        width: Channels of the result.
        kernel_size: Of the depthwise convolution.
        strides: Of the depthwise convolution.
        expansion: Channels inside the block over those it is given; 1 leaves the first 1x1 out.
        activation: Keras name.
        name: Prefix of the layers' names.
        squeeze: SqueezeExcite-and-excitation behind the depthwise convolution, if any.
        drop_path_rate: Share of images that take the shortcut alone in training (stochastic depth, Huang et al. 2016).
        padding: See `conv_bn_act`.
        norm: Momentum and epsilon of the batch norms.

    Returns:
        `[B, ceil(H / strides), ceil(W / strides), width]`; with the shortcut where the shape stays.
    """
    shortcut, given = x, x.shape[-1]
    if expansion != 1:
        x = conv_bn_act(x, expansion * given, activation=activation, norm=norm, name=f"{name}_expand")
    depthwise = {"activation": activation, "padding": padding, "norm": norm}
    x = depthwise_bn_act(x, kernel_size, strides, **depthwise, name=f"{name}_depthwise")
    if squeeze:
        x = _squeeze_excite(x, max(1, int(squeeze.share * given)), squeeze, name=f"{name}_squeeze")
    x = conv_bn_act(x, width, activation=None, norm=norm, name=f"{name}_project")
    if strides != 1 or given != width:
        return x
    return add_shortcut(x, shortcut, drop_path_rate, name=name)


def add_shortcut(
    x: keras.KerasTensor, shortcut: keras.KerasTensor, drop_path_rate: float, *, name: str
) -> keras.KerasTensor:
    """Adds a block's result to what it was given; `drop_path_rate` as in `inverted_residual`."""
    if drop_path_rate:
        x = layers.Dropout(drop_path_rate, noise_shape=(None, 1, 1, 1), name=f"{name}_drop")(x)  # one draw an image
    return layers.Add(name=f"{name}_add")([shortcut, x])


def _squeeze_excite(x: keras.KerasTensor, width: int, squeeze: SqueezeExcite, *, name: str) -> keras.KerasTensor:
    """Weighs the channels by what the whole map shows."""
    y = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(x)
    for part, filters, activation in (("reduce", width, squeeze.activation), ("expand", x.shape[-1], squeeze.gate)):
        y = layers.Conv2D(filters, 1, kernel_initializer=he_normal(), name=f"{name}_{part}")(y)
        y = activate(y, activation, name=f"{name}_{part}_act")
    return layers.Multiply(name=f"{name}_weigh")([x, y])
