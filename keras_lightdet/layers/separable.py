"""The depthwise separable convolution."""

import keras

from keras_lightdet.layers.conv import NORM, NormSpec, conv_bn_act, depthwise_bn_act, depthwise_conv


def separable_bn_act(
    x: keras.KerasTensor,
    filters: int,
    strides: int = 1,
    *,
    activation: str | None,
    name: str,
    inner_norm: bool,
    padding: str = "same",
    norm: NormSpec = NORM,
) -> keras.KerasTensor:
    """Adds a bias-free 3x3 depthwise convolution, a bias-free 1x1 convolution, batch norm and activation.

    Args:
        x: `[B, H, W, C]`.
        filters: Channels of the result.
        strides: Stride of the depthwise convolution in both directions.
        activation: Keras name, or `None` for none.
        name: Prefix of the layers' names.
        inner_norm: Whether there is a batch norm between the two convolutions, too.
        padding, norm: See `conv_bn_act`.

    Returns:
        `[B, ceil(H / strides), ceil(W / strides), filters]`.
    """
    inner = f"{name}_depthwise"
    if inner_norm:
        x = depthwise_bn_act(x, 3, strides, activation=None, name=inner, padding=padding, norm=norm)
    else:
        x = depthwise_conv(x, 3, strides, name=inner, padding=padding)
    return conv_bn_act(x, filters, activation=activation, name=f"{name}_pointwise", norm=norm)
