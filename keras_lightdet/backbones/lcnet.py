"""LCNet, the backbone of RSANet (Zhou et al. 2021, section 3.1)."""

from collections.abc import Sequence

import keras
from keras import layers

from keras_lightdet.backbones.imagenet import ImageShape
from keras_lightdet.builder import check_choice
from keras_lightdet.layers import conv_bn_act, depthwise_bn_act

WIDTHS = (32, 64, 128, 256, 512)
REPEATS = (1, 1, 2, 6, 3)
DSM_MODES = ("add", "concat")
STRIDE = 32


def LCNet(  # noqa: N802 - builders are CapWords
    input_shape: ImageShape = (None, None, 3),
    *,
    widths: Sequence[int] = WIDTHS,
    repeats: Sequence[int] = REPEATS,
    dsm: str = "add",
    activation: str = "leaky_relu",
    name: str = "lcnet",
) -> keras.Model:
    """Builds LCNet: five VGG-like stages of channel-consistent modules (CCM).

    Stage 1 starts with a 3x3 convolution of stride 2, every other with a down-sampling module (DSM). The paper's
    text gives the modules and the repeats 1, 1, 2, 6, 3; the widths are those that meet its published cost.

    Args:
        input_shape: Height and width in pixels, multiples of 32, or `None` for any; 3 channels, 0..255 RGB.
        widths: Channels of the five stages.
        repeats: CCMs in each stage.
        dsm: "add" sums the two branches of a DSM (meets the published cost), "concat" concatenates them.
        activation: Keras name of the non-linearity after every batch norm.
        name: Name of the model.

    Returns:
        A model: images `[B, H, W, 3]` -> `{"P3": [B, H/8, W/8, widths[2]], "P4": .., "P5": ..}`.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Zhou et al., "RSANet: Towards Real-Time Object Detection with Residual Semantic-Guided Attention Feature Pyramid
        Network", Mobile Networks and Applications, 2021.
    """
    _check_arguments(input_shape, widths, repeats, dsm)
    images = keras.Input(input_shape, name="images")
    x = layers.Rescaling(1 / 255, name="normalize")(images)
    features = {}
    for stage, (width, count) in enumerate(zip(widths, repeats, strict=True), start=1):
        if stage == 1:
            x = conv_bn_act(x, width, 3, 2, activation=activation, name="stage1_stem")
        else:
            x = _dsm(x, width, mode=dsm, activation=activation, name=f"stage{stage}_dsm")
        for block in range(1, count + 1):
            x = _ccm(x, activation=activation, name=f"stage{stage}_ccm{block}")
        if stage >= 3:
            features[f"P{stage}"] = x
    return keras.Model(images, features, name=name)


def _ccm(x: keras.KerasTensor, *, activation: str, name: str) -> keras.KerasTensor:
    """Channel-consistent module: (3x3 depthwise, 1x1) twice at one width, with a residual sum (fig. 2)."""
    shortcut, width = x, x.shape[-1]
    for half in (1, 2):
        x = depthwise_bn_act(x, activation=activation, name=f"{name}_depthwise{half}")
        x = conv_bn_act(x, width, activation=activation, name=f"{name}_pointwise{half}")
    return layers.Add(name=f"{name}_add")([shortcut, x])


def _dsm(x: keras.KerasTensor, width: int, *, mode: str, activation: str, name: str) -> keras.KerasTensor:
    """Down-sampling module: 3x3 depthwise of stride 2 parallel to max pooling, mixed linearly by a 1x1 (fig. 3)."""
    learned = depthwise_bn_act(x, strides=2, activation=None, name=f"{name}_depthwise")
    pooled = layers.MaxPooling2D(2, padding="same", name=f"{name}_pool")(x)
    merge = layers.Add(name=f"{name}_add") if mode == "add" else layers.Concatenate(name=f"{name}_concat")
    return conv_bn_act(merge([learned, pooled]), width, activation=activation, name=f"{name}_pointwise")


def _check_arguments(input_shape: ImageShape, widths: Sequence[int], repeats: Sequence[int], dsm: str) -> None:
    if len(input_shape) != 3 or any(side is not None and side % STRIDE for side in input_shape[:2]):
        raise ValueError(
            f"Expected input_shape (height, width, 3) with sides that are multiples of {STRIDE}, got {input_shape!r}."
        )
    if len(widths) != 5 or len(repeats) != 5:
        raise ValueError(f"Expected five widths and five repeats, got widths={widths!r}, repeats={repeats!r}.")
    check_choice("dsm", dsm, DSM_MODES)
