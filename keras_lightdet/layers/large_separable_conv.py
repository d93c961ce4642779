"""The thin feature map of Light-Head R-CNN (Li et al. 2017, section 3.2, figure 3)."""

import keras
from keras import layers

from keras_lightdet.layers.conv import activate

_STDDEV = 0.01


def large_separable_conv(
    x: keras.KerasTensor,
    mid_channels: int,
    out_channels: int,
    kernel_size: int = 15,
    *,
    activation: str | None,
    name: str,
) -> keras.KerasTensor:
    """Adds a `k x 1` then `1 x k` convolution and a `1 x k` then `k x 1` one, summed.

    As in the authors' code, the convolutions have a bias and no batch norm or activation in between, and kernels are
    initialized from a normal distribution with standard deviation 0.01.

    Args:
        x: `[B, H, W, C]`.
        mid_channels: Channels between the two convolutions of a branch; in the paper 256 with a large backbone, 64
            with a small one.
        out_channels: Channels of the result; in the paper 490 = 10 * 7 * 7.
        kernel_size: k.
        activation: Of the sum, `None` for none; in the authors' code "relu".
        name: Prefix of the layers' names.

    Returns:
        `[B, H, W, out_channels]`.
    """
    column, row = (kernel_size, 1), (1, kernel_size)
    branches = []
    for branch, (first, second) in (("column_row", (column, row)), ("row_column", (row, column))):
        inner = _conv(x, mid_channels, first, name=f"{name}_{branch}_conv1")
        branches.append(_conv(inner, out_channels, second, name=f"{name}_{branch}_conv2"))
    return activate(layers.Add(name=f"{name}_add")(branches), activation, name=f"{name}_act")


def _conv(x: keras.KerasTensor, filters: int, kernel_size: tuple[int, int], *, name: str) -> keras.KerasTensor:
    normal = keras.initializers.RandomNormal(stddev=_STDDEV)
    return layers.Conv2D(filters, kernel_size, padding="same", kernel_initializer=normal, name=name)(x)
