"""Xception39, BiSeNet's light backbone (Yu et al. 2018, section 4.1)."""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import keras
from keras import layers

from keras_lightdet.backbones.imagenet import ImageShape, add_stage, normalized_images, torch_separable, torch_stem
from keras_lightdet.builder import backbone_builder
from keras_lightdet.classification import Classifier, classification_head

STEM_WIDTH = 8
WIDTHS = (64, 128, 256)
REPEATS = (4, 8, 4)
BOTTLENECK = 4  # channels of a block over those inside it

Conv: TypeAlias = Callable[..., keras.KerasTensor]  # the arguments of `conv_bn_act`


@backbone_builder()
def Xception39(  # noqa: N802 - builders are CapWords
    input_shape: ImageShape = (None, None, 3), *, num_classes: int | None = None, name: str = "xception39"
) -> keras.Model:
    """Builds Xception39 as in the first author's code; the paper gives only its name and cost.

    Args:
        input_shape: Height and width in pixels, of any size, or `None`; 3 channels, 0..255 RGB.
        num_classes: `None` for features, else a `Classifier`.
        name: Name of the model.

    Returns:
        A model: images `[B, H, W, 3]` -> `{"P3": [B, ceil(H/8), ceil(W/8), 64], "P4": .. 128, "P5": .. 256}`; or ->
        logits `[B, num_classes]`.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Yu et al., "BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation", ECCV 2018. Chollet,
        "Xception: Deep Learning with Depthwise Separable Convolutions", CVPR 2017.
    """
    # Stem, stages 2 to 4
    images, x = normalized_images(input_shape)
    x = torch_stem(x, STEM_WIDTH, 3)
    features = {}
    for stage, (width, count) in enumerate(zip(WIDTHS, REPEATS, strict=True), start=2):
        features[f"P{stage + 1}"] = x = add_stage(x, _block, width, count, name=f"stage{stage}")
    if num_classes is None:
        return keras.Model(images, features, name=name)
    return Classifier(images, classification_head(x, num_classes), name)


def separable_block(
    x: keras.KerasTensor, width: int, strides: int, *, shortcut: Conv, inner_norm: bool, name: str
) -> keras.KerasTensor:
    """Adds three separable convolutions with a shortcut, which is the convolution `shortcut` if the shape changes.

    The other arguments are those of `layers.separable_bn_act`.
    """
    conv = partial(torch_separable, inner_norm=inner_norm)
    skip, inner = x, width // BOTTLENECK
    if strides > 1:
        skip = shortcut(x, width, strides=strides, activation=None, name=f"{name}_shortcut")
    x = conv(x, inner, strides, activation="relu", name=f"{name}_sep1")
    x = conv(x, inner, activation="relu", name=f"{name}_sep2")
    x = conv(x, width, activation=None, name=f"{name}_sep3")
    x = layers.Add(name=f"{name}_add")([skip, x])
    return layers.Activation("relu", name=f"{name}_out")(x)


_block = partial(separable_block, shortcut=partial(torch_separable, inner_norm=False), inner_norm=False)
