"""EfficientNet (Tan and Le 2019) and EfficientNet-Lite, which leaves out what phones and int8 do badly."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import keras

from keras_lightdet.backbones.imagenet import MEAN, STD, classifier, normalized_images
from keras_lightdet.layers import TORCH_NORM, NormSpec, SqueezeExcite, conv_bn_act, inverted_residual, round_width

NORM = NormSpec(momentum=0.99, epsilon=1e-3)
STEM_WIDTH, HEAD_WIDTH = 32, 1280
SQUEEZE = SqueezeExcite(0.25, "silu", "sigmoid")
LITE_MEAN, LITE_STD = (127 / 255,) * 3, (128 / 255,) * 3


class Convention(NamedTuple):
    """Where implementations of one network differ: padding of strides, and batch norm."""

    padding: str
    norm: NormSpec


CONVENTIONS = {"keras": Convention("same", NORM), "torch": Convention("symmetric", TORCH_NORM)}


@dataclass(frozen=True)
class Stage:
    """A row of B0's table (table 1): `repeats` blocks, the first of them with the stride."""

    kernel_size: int
    strides: int
    expansion: int
    width: int
    repeats: int


STAGES = (
    Stage(3, 1, 1, 16, 1),
    Stage(3, 2, 6, 24, 2),
    Stage(5, 2, 6, 40, 2),
    Stage(3, 2, 6, 80, 3),
    Stage(5, 1, 6, 112, 3),
    Stage(5, 2, 6, 192, 4),
    Stage(3, 1, 6, 320, 1),
)
LEVELS = {3: "P3", 5: "P4", 7: "P5"}  # by stage: the last before a stride, and the last


@dataclass(frozen=True)
class Variant:
    """A released size.

    Attributes:
        width: Factor of the channels.
        depth: Factor of the blocks of a stage.
        resolution: Side of the classifier's image in pixels.
        dropout: Before the classifier.
        lite: No squeeze-and-excitation, ReLU6, and stem, head and outer stages that do not grow.
    """

    width: float
    depth: float
    resolution: int
    dropout: float
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


def EfficientNet(  # noqa: N802 - builders are CapWords
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    *,
    variant: str = "b0",
    width: float | None = None,
    depth: float | None = None,
    drop_path_rate: float = 0.2,
    convention: str = "keras",
    num_classes: int | None = None,
    name: str = "efficientnet",
) -> keras.Model:
    """Builds EfficientNet-B0 to B7 or Lite0 to Lite4.

    The graph is the same with and without weights. Images are normalized by ImageNet's mean and deviation, in the
    Lite networks by `(x - 127) / 128`.

    Args:
        input_shape: Height and width in pixels, of any size, or `None`; 3 channels, 0..255 RGB.
        variant: "b0" .. "b7", "lite0" .. "lite4".
        width, depth: Factors in place of the variant's, such as those of `compound_scaling`.
        drop_path_rate: Share of images that skip the last block in training, less in those before (stochastic depth,
            Huang et al. 2016); 0 has none.
        convention: "keras" is the authors': TensorFlow's padding and their batch norm. "torch" is PyTorch's, for the
            weights of torchvision and of timm's networks without "tf_".
        num_classes: `None` for features; else the classifier, whose last 1x1 convolution the features lack.
        name: Name of the model.

    Returns:
        A model: images `[B, H, W, 3]` -> `{"P3": [B, ceil(H/8), ceil(W/8), C3], "P4": .., "P5": ..}`, stages 3, 5 and
        7; or -> logits `[B, num_classes]`.

    Raises:
        ValueError: If an argument is none of the above.

    Reference:
        Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019.
    """
    if variant not in VARIANTS:
        raise ValueError(f"Expected variant to be one of {sorted(VARIANTS)}, got {variant!r}.")
    if not 0 <= drop_path_rate < 1:
        raise ValueError(f"Expected drop_path_rate to be at least 0 and below 1, got {drop_path_rate!r}.")
    if convention not in CONVENTIONS:
        raise ValueError(f"Expected convention to be one of {sorted(CONVENTIONS)}, got {convention!r}.")
    chosen, form = VARIANTS[variant], CONVENTIONS[convention]
    width, depth = width or chosen.width, depth or chosen.depth
    activation = "relu6" if chosen.lite else "silu"
    mean, std = (LITE_MEAN, LITE_STD) if chosen.lite else (MEAN, STD)
    stem_width, head_width = (each if chosen.lite else round_width(each * width) for each in (STEM_WIDTH, HEAD_WIDTH))

    images, x = normalized_images(input_shape, num_classes, mean=mean, std=std)
    x = conv_bn_act(x, stem_width, 3, 2, activation=activation, **form._asdict(), name="stem")
    features = {}
    repeats = scaled_repeats(depth, fixed_ends=chosen.lite)
    survived, blocks = 0, sum(repeats)
    for index, (stage, count) in enumerate(zip(STAGES, repeats, strict=True), start=1):
        for block in range(1, count + 1):
            x = inverted_residual(
                x,
                round_width(stage.width * width),
                stage.kernel_size,
                stage.strides if block == 1 else 1,
                expansion=stage.expansion,
                activation=activation,
                squeeze=None if chosen.lite else SQUEEZE,
                drop_path_rate=drop_path_rate * survived / blocks,
                **form._asdict(),
                name=f"stage{index}_block{block}",
            )
            survived += 1
        if index in LEVELS:
            features[LEVELS[index]] = x
    if num_classes is None:
        return keras.Model(images, features, name=name)
    x = conv_bn_act(x, head_width, activation=activation, norm=form.norm, name="head")
    architecture = {
        "builder": "EfficientNet",
        "variant": variant,
        "width": width,
        "depth": depth,
        "convention": convention,
    }
    return classifier(images, x, num_classes, architecture, dropout=chosen.dropout, name=name)


def scaled_repeats(depth: float, *, fixed_ends: bool) -> list[int]:
    """Returns the blocks of each stage, rounded up; `fixed_ends` leaves the first and the last stage as they are."""
    repeats = [math.ceil(depth * stage.repeats) for stage in STAGES]
    if fixed_ends:
        repeats[0], repeats[-1] = STAGES[0].repeats, STAGES[-1].repeats
    return repeats
