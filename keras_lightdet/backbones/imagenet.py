"""What the ImageNet backbones share: the images' normalization, a stem, and the head that makes them classifiers."""

from collections.abc import Mapping, Sequence
from functools import partial

import keras
from keras import layers

from keras_lightdet.layers import TORCH_NORM, NormalizeImages, conv_bn_act, depthwise_bn_act, separable_bn_act

# Mean and standard deviation of ImageNet's red, green and blue in 0..1, which torchvision's weights were trained with.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
CLASSES = 1000

# The same unit in PyTorch's convention: padding alike on both sides, its batch norm.
torch_conv = partial(conv_bn_act, padding="symmetric", norm=TORCH_NORM)
torch_depthwise = partial(depthwise_bn_act, padding="symmetric", norm=TORCH_NORM)
torch_separable = partial(separable_bn_act, padding="symmetric", norm=TORCH_NORM)


def normalized_images(
    input_shape: Sequence[int | None],
    num_classes: int | None,
    *,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Starts a backbone.

    Args:
        input_shape: `(height, width, 3)`; sides of any size, or `None`.
        num_classes: As the builder got it; only checked.
        mean, std: Of red, green and blue in 0..1.

    Returns:
        The input, 0..255 RGB, and the same as `(x / 255 - mean) / std`.

    Raises:
        ValueError: If the shape is no such triple, or the number of classes is below 1.
    """
    if len(input_shape) != 3 or input_shape[2] != 3:
        raise ValueError(f"Expected input_shape (height, width, 3), got {tuple(input_shape)!r}.")
    if num_classes is not None and num_classes < 1:
        raise ValueError(f"Expected num_classes to be None for features, or 1 or more, got {num_classes!r}.")
    images = keras.Input(tuple(input_shape), name="images")
    scale = [1 / (255 * each) for each in std]
    offset = [-middle / each for middle, each in zip(mean, std, strict=True)]
    return images, NormalizeImages(scale, offset, name="normalize")(images)


def torch_stem(x: keras.KerasTensor, width: int, kernel_size: int) -> keras.KerasTensor:
    """Convolution of stride 2, then 3x3 maximum of stride 2, to a quarter of each side."""
    x = torch_conv(x, width, kernel_size, 2, activation="relu", name="stem")
    # PyTorch pads a maximum with minus infinity. Behind a ReLU no value is below 0, so zeros do the same.
    x = layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    return layers.MaxPooling2D(3, 2, name="stem_pool")(x)


def classifier(
    images: keras.KerasTensor,
    x: keras.KerasTensor,
    num_classes: int,
    architecture: Mapping,
    *,
    dropout: float = 0.0,
    name: str,
) -> keras.Model:
    """Adds a global average and a dense layer: `x` `[B, H, W, C]` -> float32 logits `[B, num_classes]`.

    Between the two, training drops the share `dropout` of the averages.

    The model carries what `weights.save_weights` keeps beside its weights: its `architecture`, and `class_names` for
    whoever trains it to set.
    """
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    small = keras.initializers.RandomNormal(stddev=0.01)
    x = layers.Dense(num_classes, kernel_initializer=small, dtype="float32", name="classifier")(x)
    model = keras.Model(images, x, name=name)
    model.architecture = dict(architecture)
    model.class_names = tuple(f"class {index}" for index in range(num_classes))
    return model
