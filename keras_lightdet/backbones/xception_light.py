"""The small Xception-like backbone of Light-Head R-CNN's setting S (Li et al. 2017, section 3.3)."""

import keras
from keras import layers

from keras_lightdet.backbones.imagenet import ImageShape, add_stage, normalized_images
from keras_lightdet.builder import backbone_builder
from keras_lightdet.classification import Classifier, classification_head
from keras_lightdet.layers import conv_bn_act, depthwise_bn_act

STEM_WIDTH = 24
WIDTHS = (144, 288, 576)
REPEATS = (4, 8, 4)
BOTTLENECK = 4  # channels of a unit over those inside it


@backbone_builder()
def XceptionLight(  # noqa: N802 - builders are CapWords
    input_shape: ImageShape = (None, None, 3), *, num_classes: int | None = None, name: str = "xception_light"
) -> keras.Model:
    """Builds the 145 MFLOPs network: bottlenecks whose 3x3 convolution is depthwise, activated after the sum.

    The paper gives widths, repeats and the cost but not the unit of stride 2, and its code was never released. Of the
    known readings, this one comes closest at 143.1 M multiply-adds: the input's channels go through average pooling of
    stride 2 and the bottleneck adds the missing ones, as in ShuffleNet without groups.

    Args:
        input_shape: Height and width in pixels, of any size, or `None`; 3 channels, 0..255 RGB.
        num_classes: `None` for features, else a `Classifier`.
        name: Name of the model.

    Returns:
        A model: images `[B, H, W, 3]` -> `{"P3": [B, ceil(H/8), ceil(W/8), 144], "P4": .. 288, "P5": .. 576}`; or
        -> logits `[B, num_classes]`.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Li et al., "Light-Head R-CNN: In Defense of Two-Stage Object Detector", 2017. Zhang et al., "ShuffleNet: An
        Extremely Efficient Convolutional Neural Network for Mobile Devices", CVPR 2018.
    """
    # Conv1, max pooling, stages 2 to 4
    images, x = normalized_images(input_shape)
    x = conv_bn_act(x, STEM_WIDTH, 3, 2, activation="relu", name="stem")
    x = layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
    features = {}
    for stage, (width, count) in enumerate(zip(WIDTHS, REPEATS, strict=True), start=2):
        features[f"P{stage + 1}"] = x = add_stage(x, _unit, width, count, name=f"stage{stage}")
    if num_classes is None:
        return keras.Model(images, features, name=name)
    return Classifier(images, classification_head(x, num_classes), name)


def _unit(x: keras.KerasTensor, width: int, strides: int, *, name: str) -> keras.KerasTensor:
    """Adds the bottleneck to its input; with stride 2 concatenates it to the average-pooled input.

    The bottleneck is a 1x1 to reduce, a 3x3 depthwise without activation and a 1x1 to expand. For stride 2 see Zhang et
    al. 2018, fig. 2c.
    """
    if strides == 1:
        shortcut, merge, branch_width = x, layers.Add(name=f"{name}_add"), width
    else:
        shortcut = layers.AveragePooling2D(3, strides, padding="same", name=f"{name}_shortcut_pool")(x)
        merge, branch_width = layers.Concatenate(name=f"{name}_concat"), width - x.shape[-1]
    x = conv_bn_act(x, width // BOTTLENECK, activation="relu", name=f"{name}_reduce")
    x = depthwise_bn_act(x, 3, strides, activation=None, name=f"{name}_depthwise")
    x = conv_bn_act(x, branch_width, activation=None, name=f"{name}_expand")
    return layers.Activation("relu", name=f"{name}_out")(merge([shortcut, x]))
