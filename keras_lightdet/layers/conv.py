"""Convolution, batch norm and activation: the unit of all networks of the package."""

from typing import NamedTuple

import keras
from keras import layers, ops

from keras_lightdet.layers.batch_norm import FusedBatchNormalization
from keras_lightdet.types import Tensor

PADDINGS = ("same", "symmetric")


class NormSpec(NamedTuple):
    """The settings of a batch norm.

    Attributes:
        momentum: Of the moving averages, as Keras defines it.
        epsilon: Added to the variance.
    """

    momentum: float = 0.97
    epsilon: float = 1e-3


NORM = NormSpec()
TORCH_NORM = NormSpec(momentum=0.9, epsilon=1e-5)  # PyTorch's defaults; its momentum is 1 minus Keras'


@keras.saving.register_keras_serializable("keras_lightdet")
class StridedPointwiseConv2D(layers.Conv2D):
    """A bias-free 1x1 convolution with a stride; in training, strided slicing and a convolution of stride 1.

    In TensorFlow 2.21 the gradient of a 1x1 convolution of stride 2 over 8 channels writes out of bounds (with oneDNN,
    on a CPU), which causes a segmentation fault. At inference, and in a .tflite, the layer is one operation.
    """

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """Convolves `[B, H, W, C]` to `[B, ceil(H / stride), ceil(W / stride), filters]`."""
        if not training:
            return super().call(inputs)
        rows, columns = self.strides
        return ops.conv(inputs[:, ::rows, ::columns], self.kernel, padding="valid")


def he_normal() -> keras.initializers.Initializer:
    """Returns the initializer of He et al. 2015 by fan-out: the fan-in of a depthwise kernel in Keras is too large."""
    return keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="truncated_normal")


def batch_norm(x: keras.KerasTensor, *, norm: NormSpec = NORM, name: str) -> keras.KerasTensor:
    """Adds batch norm, synchronized over replicas under a distribution strategy."""
    return FusedBatchNormalization(momentum=norm.momentum, epsilon=norm.epsilon, name=name)(x)


def activate(x: keras.KerasTensor, activation: str | None, *, name: str) -> keras.KerasTensor:
    """Adds an activation by its Keras name; `None` adds none, "leaky_relu" has slope 0.1."""
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
    padding: str = "same",
    dilation: int = 1,
    norm: NormSpec = NORM,
) -> keras.KerasTensor:
    """Adds a bias-free convolution, batch norm and activation.

    Args:
        x: `[B, H, W, C]`.
        filters: Channels of the result.
        kernel_size: Side of the square kernel, odd.
        strides: Stride in both directions.
        activation: Keras name, or `None` for none.
        name: Prefix of the layers' names.
        padding: "same" is TensorFlow's, which depends on the size: with stride 2 and an even size it pads only the
            bottom and the right. "symmetric" pads `dilation * (kernel_size // 2)` on all sides, as PyTorch does.
        dilation: Dilation of the kernel.
        norm: Momentum and epsilon of the batch norm.

    Returns:
        `[B, ceil(H / strides), ceil(W / strides), filters]`.

    Raises:
        ValueError: If the padding is unknown.
    """
    x, padding = _pad(x, kernel_size, strides, dilation, padding, name=f"{name}_pad")
    conv = StridedPointwiseConv2D if kernel_size == 1 and strides > 1 else layers.Conv2D
    x = conv(
        filters,
        kernel_size,
        strides,
        padding=padding,
        dilation_rate=dilation,
        use_bias=False,
        kernel_initializer=he_normal(),
        name=f"{name}_conv",
    )(x)
    return activate(batch_norm(x, norm=norm, name=f"{name}_bn"), activation, name=f"{name}_act")


def depthwise_bn_act(
    x: keras.KerasTensor,
    kernel_size: int = 3,
    strides: int = 1,
    *,
    activation: str | None,
    name: str,
    padding: str = "same",
    norm: NormSpec = NORM,
) -> keras.KerasTensor:
    """Adds a bias-free depthwise convolution, batch norm and activation; see `conv_bn_act` for the arguments."""
    x = depthwise_conv(x, kernel_size, strides, name=name, padding=padding)
    return activate(batch_norm(x, norm=norm, name=f"{name}_bn"), activation, name=f"{name}_act")


def depthwise_conv(
    x: keras.KerasTensor, kernel_size: int = 3, strides: int = 1, *, name: str, padding: str = "same"
) -> keras.KerasTensor:
    """Adds only a bias-free depthwise convolution; see `conv_bn_act` for the arguments."""
    x, padding = _pad(x, kernel_size, strides, 1, padding, name=f"{name}_pad")
    return layers.DepthwiseConv2D(
        kernel_size, strides, padding=padding, use_bias=False, depthwise_initializer=he_normal(), name=f"{name}_conv"
    )(x)


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


def _pad(
    x: keras.KerasTensor, kernel_size: int, strides: int, dilation: int, padding: str, *, name: str
) -> tuple[keras.KerasTensor, str]:
    """Pads where "symmetric" differs from "same"; returns the padding for Keras' convolution, too."""
    if padding not in PADDINGS:
        raise ValueError(f"Expected padding to be one of {PADDINGS}, got {padding!r}.")
    if padding == "same" or strides == 1 or kernel_size == 1:
        return x, "same"
    return layers.ZeroPadding2D(dilation * (kernel_size // 2), name=name)(x), "valid"
