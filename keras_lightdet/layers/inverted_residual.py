"""The inverted residual (Sandler et al. 2018), with the extensions of EfficientNet and mobile SpineNet."""

from typing import NamedTuple

import keras
from keras import layers

from keras_lightdet.layers.conv import NORM, NormSpec, activate, conv_bn_act, depthwise_bn_act, he_normal

MULTIPLE = 8  # of all channels


class SqueezeExcite(NamedTuple):
    """Squeeze-and-excitation (Hu et al. 2018) inside a block.

    Attributes:
        ratio: Channels of the squeeze over those of the block's input.
        activation: Between the two convolutions; Keras name.
        gate: Activation of the channel weights; Keras name.
    """

    ratio: float
    activation: str
    gate: str


def round_width(channels: float) -> int:
    """Rounds to the nearest multiple of 8, or to the next larger one if rounding removes more than 10 %."""
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
    """Adds a 1x1 to expand, a depthwise convolution and a linear 1x1 to project, with a shortcut (fig. 3b).

    Args:
        x: `[B, H, W, C]`.
        width: Channels of the result.
        kernel_size: Of the depthwise convolution.
        strides: Of the depthwise convolution.
        expansion: Channels inside the block over those of its input; 1 omits the first 1x1.
        activation: Keras name.
        name: Prefix of the layers' names.
        squeeze: Squeeze-and-excitation after the depthwise convolution, if any.
        drop_path_rate: Share of images that skip the block in training (stochastic depth, Huang et al. 2016).
        padding: See `conv_bn_act`.
        norm: Momentum and epsilon of the batch norms.

    Returns:
        `[B, ceil(H / strides), ceil(W / strides), width]`. The shortcut is omitted if the shape changes.
    """
    shortcut, in_width = x, x.shape[-1]
    if expansion != 1:
        x = conv_bn_act(x, expansion * in_width, activation=activation, norm=norm, name=f"{name}_expand")
    x = depthwise_bn_act(
        x, kernel_size, strides, activation=activation, padding=padding, norm=norm, name=f"{name}_depthwise"
    )
    if squeeze:
        x = _squeeze_excite(x, max(1, int(squeeze.ratio * in_width)), squeeze, name=f"{name}_squeeze")
    x = conv_bn_act(x, width, activation=None, norm=norm, name=f"{name}_project")
    if strides != 1 or in_width != width:
        return x
    return add_shortcut(x, shortcut, drop_path_rate, name=name)


def add_shortcut(
    x: keras.KerasTensor, shortcut: keras.KerasTensor, drop_path_rate: float, *, name: str
) -> keras.KerasTensor:
    """Adds a block's input to its result; `drop_path_rate` as in `inverted_residual`."""
    if drop_path_rate:
        x = layers.Dropout(drop_path_rate, noise_shape=(None, 1, 1, 1), name=f"{name}_drop")(x)  # whole images
    return layers.Add(name=f"{name}_add")([shortcut, x])


def _squeeze_excite(x: keras.KerasTensor, width: int, squeeze: SqueezeExcite, *, name: str) -> keras.KerasTensor:
    """Weights the channels by a function of their global averages."""
    weights = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(x)
    for step, filters, activation in (("reduce", width, squeeze.activation), ("expand", x.shape[-1], squeeze.gate)):
        weights = layers.Conv2D(filters, 1, kernel_initializer=he_normal(), name=f"{name}_{step}")(weights)
        weights = activate(weights, activation, name=f"{name}_{step}_act")
    return layers.Multiply(name=f"{name}_weigh")([x, weights])
