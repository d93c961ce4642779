"""ResNet (He et al. 2016) in torchvision's form: the 3x3 convolution has the stride."""

from dataclasses import dataclass
from functools import partial

import keras
from keras import layers

from keras_lightdet.backbones.imagenet import ImageShape, add_stage, normalized_images, torch_conv, torch_stem
from keras_lightdet.builder import backbone_builder
from keras_lightdet.classification import Classifier, classification_head

STEM_WIDTH = 64
WIDTHS = (64, 128, 256, 512)  # of the 3x3 convolutions in stages 2 to 5
EXPANSION = 4  # of a bottleneck's last 1x1 convolution


@dataclass(frozen=True)
class Variant:
    """A depth of table 1."""

    repeats: tuple[int, int, int, int]  # blocks in stages 2 to 5
    bottleneck: bool  # whether the blocks are bottlenecks


VARIANTS = {
    18: Variant((2, 2, 2, 2), bottleneck=False),
    34: Variant((3, 4, 6, 3), bottleneck=False),
    50: Variant((3, 4, 6, 3), bottleneck=True),
    101: Variant((3, 4, 23, 3), bottleneck=True),
}


@backbone_builder(VARIANTS, "depth")
def ResNet(  # noqa: N802 - builders are CapWords
    input_shape: ImageShape = (None, None, 3),
    *,
    depth: int = 50,
    dilate_last: bool = False,
    num_classes: int | None = None,
    name: str = "resnet",
) -> keras.Model:
    """Builds ResNet-18, 34, 50 or 101.

    Differs from the paper's table 1 as torchvision does, whose weights `keras_lightdet.foreign_weights` reads: in a
    bottleneck of stride 2 the 3x3 convolution has the stride, not the first 1x1.

    Args:
        input_shape: Height and width in pixels, of any size, or `None`; 3 channels, 0..255 RGB.
        depth: 18 or 34 (basic blocks), 50 or 101 (bottlenecks).
        dilate_last: `True` keeps stage 5 at stride 16 and dilates all its 3x3 convolutions by 2, those of its first
            block included (Light-Head R-CNN L).
        num_classes: `None` for features, else a `Classifier`.
        name: Name of the model.

    Returns:
        A model: images `[B, H, W, 3]` -> `{"P2": [B, ceil(H/4), ceil(W/4), C2], .., "P5": ..}`, the outputs of stages
        2 to 5 at strides 4, 8, 16 and 32 (P5: 16 if `dilate_last`); or -> logits `[B, num_classes]`.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.
    """
    size = VARIANTS[depth]
    add_block = _bottleneck if size.bottleneck else _basic_block

    # conv1 and the max pooling of conv2_x
    images, x = normalized_images(input_shape)
    x = torch_stem(x, STEM_WIDTH, 7)
    # conv2_x to conv5_x
    features = {}
    for stage, (width, count) in enumerate(zip(WIDTHS, size.repeats, strict=True), start=2):
        dilated = dilate_last and stage == 5
        block = partial(add_block, dilation=2 if dilated else 1)
        x = add_stage(x, block, width, count, strides=1 if stage == 2 or dilated else 2, name=f"stage{stage}")
        features[f"P{stage}"] = x
    if num_classes is None:
        return keras.Model(images, features, name=name)
    return Classifier(images, classification_head(x, num_classes), name)


def _basic_block(x: keras.KerasTensor, width: int, strides: int, *, dilation: int, name: str) -> keras.KerasTensor:
    """Two 3x3 convolutions (fig. 5 left)."""
    shortcut = _shortcut(x, width, strides, name=name)
    x = torch_conv(x, width, 3, strides, activation="relu", dilation=dilation, name=f"{name}_spatial1")
    x = torch_conv(x, width, 3, activation=None, dilation=dilation, name=f"{name}_spatial2")
    return _add(shortcut, x, name=name)


def _bottleneck(x: keras.KerasTensor, width: int, strides: int, *, dilation: int, name: str) -> keras.KerasTensor:
    """1x1 to reduce, 3x3, 1x1 to expand (fig. 5 right)."""
    shortcut = _shortcut(x, EXPANSION * width, strides, name=name)
    x = torch_conv(x, width, activation="relu", name=f"{name}_reduce")
    x = torch_conv(x, width, 3, strides, activation="relu", dilation=dilation, name=f"{name}_spatial")
    x = torch_conv(x, EXPANSION * width, activation=None, name=f"{name}_expand")
    return _add(shortcut, x, name=name)


def _shortcut(x: keras.KerasTensor, width: int, strides: int, *, name: str) -> keras.KerasTensor:
    """Returns the input, or its 1x1 projection where the shape changes (option B of section 3.3)."""
    if strides == 1 and x.shape[-1] == width:
        return x
    return torch_conv(x, width, 1, strides, activation=None, name=f"{name}_shortcut")


def _add(shortcut: keras.KerasTensor, x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.Activation("relu", name=f"{name}_out")(x)
