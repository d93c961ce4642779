"""EfficientNet (Tan and Le 2019) and EfficientNet-Lite, which omits what is slow on phones or inexact in int8."""

import math
from dataclasses import dataclass, replace
from functools import partial

import keras

from keras_lightdet.backbones.imagenet import MEAN, STD, TORCH, Convention, ImageShape, normalized_images
from keras_lightdet.backbones.residual_stages import Stage, residual_stages
from keras_lightdet.builder import DERIVED, backbone_builder, check_choice
from keras_lightdet.classification import Classifier, classification_head
from keras_lightdet.layers import NormSpec, SqueezeExcite, conv_bn_act, inverted_residual, round_width

NORM = NormSpec(momentum=0.99, epsilon=1e-3)
CONVENTIONS = {"keras": Convention("same", NORM), "torch": TORCH}
STEM_WIDTH, HEAD_WIDTH = 32, 1280
SQUEEZE = SqueezeExcite(0.25, "silu", "sigmoid")
LITE_MEAN, LITE_STD = (127 / 255,) * 3, (128 / 255,) * 3

# B0's stages of MBConv blocks: stages 2 to 8 of table 1, here counted from 1.
STAGES = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 40, 2, 2, kernel_size=5),
    Stage(6, 80, 3, 2),
    Stage(6, 112, 3, 1, kernel_size=5),
    Stage(6, 192, 4, 2, kernel_size=5),
    Stage(6, 320, 1, 1),
)
LEVELS = {3: "P3", 5: "P4", 7: "P5"}  # the last stage at each stride


@dataclass(frozen=True)
class Variant:
    """A released size.

    Lite networks have no squeeze-and-excitation and use ReLU6. Their stem, their head and the number of blocks of their
    first and last stage are not scaled.
    """

    width: float  # factor of the channels
    depth: float  # factor of the blocks of a stage
    resolution: int  # height and width of the classifier's image in pixels
    dropout: float  # rate of the dropout before the classifier
    lite: bool = False


VARIANTS = {
    "b0": Variant(1.0, 1.0, 224, 0.2),
    "b1": Variant(1.0, 1.1, 240, 0.2),
    "b2": Variant(1.1, 1.2, 260, 0.3),
    "b3": Variant(1.2, 1.4, 300, 0.3),
    "b4": Variant(1.4, 1.8, 380, 0.4),
    "b5": Variant(1.6, 2.2, 456, 0.4),
    "b6": Variant(1.8, 2.6, 528, 0.5),
    "b7": Variant(2.0, 3.1, 600, 0.5),
    "lite0": Variant(1.0, 1.0, 224, 0.2, lite=True),
    "lite1": Variant(1.0, 1.1, 240, 0.2, lite=True),
    "lite2": Variant(1.1, 1.2, 260, 0.3, lite=True),
    "lite3": Variant(1.2, 1.4, 280, 0.3, lite=True),
    "lite4": Variant(1.4, 1.8, 300, 0.3, lite=True),
}


@backbone_builder(VARIANTS, not_recorded=("drop_path_rate",))
def EfficientNet(  # noqa: N802 - builders are CapWords
    input_shape: ImageShape = (None, None, 3),
    *,
    variant: str = "b0",
    width: float = DERIVED,
    depth: float = DERIVED,
    drop_path_rate: float = 0.2,
    convention: str = "keras",
    num_classes: int | None = None,
    name: str = "efficientnet",
) -> keras.Model:
    """Builds EfficientNet-B0 to B7 or Lite0 to Lite4.

    Images are normalized inside the model: by ImageNet's mean and standard deviation, in the Lite networks by
    `(x - 127) / 128`.

    Args:
        input_shape: Height and width in pixels, of any size, or `None`; 3 channels, 0..255 RGB.
        variant: "b0" .. "b7", "lite0" .. "lite4".
        width, depth: Factors instead of the variant's, such as those of `compound_scaling`.
        drop_path_rate: Share of images that skip a block in training (stochastic depth, Huang et al. 2016). The rates
            grow linearly from 0 at the first block to almost this one at the last.
        convention: "keras" is the authors': TensorFlow's padding and their batch norm. "torch" is PyTorch's, for the
            weights of torchvision and of timm's networks without "tf_".
        num_classes: `None` for features; else a `Classifier`, with one more 1x1 convolution.
        name: Name of the model.

    Returns:
        A model: images `[B, H, W, 3]` -> `{"P3": [B, ceil(H/8), ceil(W/8), C3], "P4": .., "P5": ..}`, stages 3, 5 and
        7; or -> logits `[B, num_classes]`.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019.
    """
    check_choice("convention", convention, CONVENTIONS)
    if not 0 <= drop_path_rate < 1:
        raise ValueError(f"Expected drop_path_rate to be at least 0 and below 1, got {drop_path_rate!r}.")
    size, (padding, norm) = VARIANTS[variant], CONVENTIONS[convention]
    stem_width, head_width = (w if size.lite else round_width(w * width) for w in (STEM_WIDTH, HEAD_WIDTH))
    mean, std = (LITE_MEAN, LITE_STD) if size.lite else (MEAN, STD)
    activation = "relu6" if size.lite else "silu"
    conv = partial(conv_bn_act, activation=activation, padding=padding, norm=norm)
    squeeze = None if size.lite else SQUEEZE
    block = partial(inverted_residual, activation=activation, squeeze=squeeze, padding=padding, norm=norm)

    images, x = normalized_images(input_shape, mean, std)
    x = conv(x, stem_width, 3, 2, name="stem")
    stages = scaled_stages(width, depth, fixed_ends=size.lite)
    features = residual_stages(x, stages, LEVELS, block=block, drop_path_rate=drop_path_rate)
    if num_classes is None:
        return keras.Model(images, features, name=name)
    x = conv(features["P5"], head_width, name="head")
    return Classifier(images, classification_head(x, num_classes, dropout=size.dropout), name)


def scaled_stages(width: float, depth: float, *, fixed_ends: bool) -> list[Stage]:
    """Returns the stages with scaled channels and blocks; `fixed_ends` keeps the blocks of the first and last stage."""
    repeats = [math.ceil(depth * stage.repeats) for stage in STAGES]
    if fixed_ends:
        repeats[0], repeats[-1] = STAGES[0].repeats, STAGES[-1].repeats
    return [
        replace(stage, width=round_width(stage.width * width), repeats=count)
        for stage, count in zip(STAGES, repeats, strict=True)
    ]
