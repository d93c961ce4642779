"""Shared by the ImageNet backbones: the normalization of images, PyTorch's convention, and a stem."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeAlias

import keras
from keras import layers

from keras_lightdet.layers import TORCH_NORM, NormalizeImages, NormSpec, conv_bn_act, depthwise_bn_act, separable_bn_act

ImageShape: TypeAlias = tuple[int | None, int | None, int]  # (height, width, 3); `None` for any size

# Mean and standard deviation of ImageNet's red, green and blue in 0..1, as torchvision's weights expect them.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
NUM_CLASSES = 1000


class Convention(NamedTuple):
    """What differs between implementations of one network."""

    padding: str  # see `conv_bn_act`
    norm: NormSpec  # momentum and epsilon of the batch norms


TORCH = Convention("symmetric", TORCH_NORM)

# The units in PyTorch's convention.
torch_conv = partial(conv_bn_act, padding=TORCH.padding, norm=TORCH.norm)
torch_depthwise = partial(depthwise_bn_act, padding=TORCH.padding, norm=TORCH.norm)
torch_separable = partial(separable_bn_act, padding=TORCH.padding, norm=TORCH.norm)


def normalized_images(
    input_shape: Sequence[int | None], mean: Sequence[float] = MEAN, std: Sequence[float] = STD
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Returns the input of a network, images of 0..255 RGB, and the same as `(x / 255 - mean) / std`."""
    if len(input_shape) != 3 or input_shape[2] != 3:
        raise ValueError(f"Expected input_shape (height, width, 3), got {tuple(input_shape)!r}.")
    images = keras.Input(tuple(input_shape), name="images")
    scale = [1 / (255 * deviation) for deviation in std]
    offset = [-center / deviation for center, deviation in zip(mean, std, strict=True)]
    return images, NormalizeImages(scale, offset, name="normalize")(images)


def torch_stem(x: keras.KerasTensor, width: int, kernel_size: int) -> keras.KerasTensor:
    """Adds a convolution of stride 2 and 3x3 max pooling of stride 2, in PyTorch's convention."""
    x = torch_conv(x, width, kernel_size, 2, activation="relu", name="stem")
    # PyTorch's max pooling pads with minus infinity. After a ReLU zeros are equivalent.
    x = layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    return layers.MaxPooling2D(3, 2, name="stem_pool")(x)


def add_stage(
    x: keras.KerasTensor,
    block: Callable[..., keras.KerasTensor],
    width: int,
    repeats: int,
    *,
    strides: int = 2,
    name: str,
) -> keras.KerasTensor:
    """Adds blocks `block(x, width, strides, name=..)` of one width, of which only the first has the stride."""
    for index in range(1, repeats + 1):
        x = block(x, width, strides if index == 1 else 1, name=f"{name}_block{index}")
    return x
