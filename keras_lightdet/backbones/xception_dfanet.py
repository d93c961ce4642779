"""Xception A and B, DFANet's backbones, with their attention over channels (Li et al. 2019, section 3.1)."""

from dataclasses import dataclass
from functools import partial

import keras
from keras import layers

from keras_lightdet.backbones.imagenet import NUM_CLASSES, ImageShape, add_stage, normalized_images, torch_conv
from keras_lightdet.backbones.xception39 import separable_block
from keras_lightdet.builder import backbone_builder
from keras_lightdet.classification import Classifier, classification_head

STEM_WIDTH = 8
REPEATS = (4, 6, 4)
STAGES = ("enc2", "enc3", "enc4")


@dataclass(frozen=True)
class Variant:
    """A size of table 1."""

    widths: tuple[int, int, int]  # channels of enc2, enc3 and enc4


VARIANTS = {"a": Variant((48, 96, 192)), "b": Variant((32, 64, 128))}
block = partial(separable_block, shortcut=torch_conv, inner_norm=True)


@backbone_builder(VARIANTS)
def XceptionDFANet(  # noqa: N802 - builders are CapWords
    input_shape: ImageShape = (None, None, 3),
    *,
    variant: str = "a",
    num_classes: int | None = None,
    name: str = "xception_dfanet",
) -> keras.Model:
    """Builds Xception A or B.

    Table 1 gives widths and repeats. The paper does not draw the blocks; this reading meets its multiply-adds: as in
    Xception39, with a batch norm after the depthwise convolutions too, and a 1x1 convolution as the shortcut where the
    shape changes.

    Args:
        input_shape: Height and width in pixels, of any size, or `None`; 3 channels, 0..255 RGB.
        variant: "a" or "b".
        num_classes: `None` for features, else a `Classifier`.
        name: Name of the model.

    Returns:
        A model: images `[B, H, W, 3]` -> `{"P2": [B, ceil(H/4), ceil(W/4), C2], "P3": .., "P4": ..}`, the outputs of
        enc2, enc3 and of the attention at strides 4, 8 and 16; or -> logits `[B, num_classes]`.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Li et al., "DFANet: Deep Feature Aggregation for Real-Time Semantic Segmentation", CVPR 2019.
    """
    images, x = normalized_images(input_shape)
    x = stem(x)
    features = {}
    for level, stage, width, count in zip(("P2", "P3", "P4"), STAGES, VARIANTS[variant].widths, REPEATS, strict=True):
        features[level] = x = add_stage(x, block, width, count, name=stage)
    if num_classes is None:
        features["P4"] = fc_attention(x, name="attention")
        return keras.Model(images, features, name=name)
    return Classifier(images, classification_head(x, num_classes), name)


def stem(x: keras.KerasTensor) -> keras.KerasTensor:
    """Adds the dense 3x3 convolution of stride 2 before the first backbone (conv1)."""
    return torch_conv(x, STEM_WIDTH, 3, 2, activation="relu", name="stem")


def fc_attention(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    """Weights the channels of `x` by the features of an ImageNet classifier (figure 3, "fc attention").

    The figure shows no activation. With ReLU, which some re-implementations use, the weights have no bound, and they
    multiply from one backbone to the next: images unlike those of a training batch gave logits of 1e6, which int8
    cannot represent beside ordinary ones. Sigmoid bounds the weights, as in other channel attention, and trained
    faster.
    """
    weight = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(x)
    weight = layers.Dense(NUM_CLASSES, name=f"{name}_fc")(weight)
    weight = torch_conv(weight, x.shape[-1], activation="sigmoid", name=name)
    return layers.Multiply(name=f"{name}_weigh")([x, weight])
