"""Convolution, batch norm and activation: the unit every network here is made of."""

import keras
from keras import layers

from keras_lightdet.layers.batch_norm import FusedBatchNormalization

BATCH_NORM_MOMENTUM = 0.97
BATCH_NORM_EPSILON = 1e-3


def he_normal() -> keras.initializers.Initializer:
    """He et al. 2015 by fan-out: Keras counts all channels of a depthwise kernel as its fan-in."""
    return keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="truncated_normal")


def batch_norm(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    """Normalises over the batch; statistics are those of all replicas under a distribution strategy."""
    return FusedBatchNormalization(momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON, name=name)(x)


def activate(x: keras.KerasTensor, activation: str | None, *, name: str) -> keras.KerasTensor:
    """Applies a Keras activation by name; `None` leaves `x` as it is, "leaky_relu" has slope 0.1."""
    if activation is None:
        return x
    if activation == "leaky_relu":
        return layers.LeakyReLU(negative_slope=0.1, name=name)(x)
    return layers.Activation(activation, name=name)(x)


def conv_bn_act(
    x: keras.KerasTensor,
    filters: int,
    kernel_size: int = 1,
    strides: int = 1,
    *,
    activation: str | None,
    name: str,
) -> keras.KerasTensor:
    """Adds a bias-free convolution ("same"), batch norm and activation.

    Args:
        x: `[B, H, W, C]`.
        filters: Channels of the result.
        kernel_size: Side of the square kernel.
        strides: Step in both directions.
        activation: Keras name, or `None` for a linear unit.
        name: Prefix of the three layers' names.

    Returns:
        `[B, ceil(H / strides), ceil(W / strides), filters]`.
    """
    x = layers.Conv2D(
        filters,
        kernel_size,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer=he_normal(),
        name=f"{name}_conv",
    )(x)
    return activate(batch_norm(x, name=f"{name}_bn"), activation, name=f"{name}_act")


def depthwise_bn_act(
    x: keras.KerasTensor, kernel_size: int = 3, strides: int = 1, *, activation: str | None, name: str
) -> keras.KerasTensor:
    """Adds a bias-free depthwise convolution ("same"), batch norm and activation; as `conv_bn_act` otherwise."""
    x = layers.DepthwiseConv2D(
        kernel_size, strides, padding="same", use_bias=False, depthwise_initializer=he_normal(), name=f"{name}_conv"
    )(x)
    return activate(batch_norm(x, name=f"{name}_bn"), activation, name=f"{name}_act")
