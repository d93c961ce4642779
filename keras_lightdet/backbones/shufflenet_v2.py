"""ShuffleNetV2 (Ma et al. 2018), and the unit that SNet shares with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
from keras import layers, ops

from keras_lightdet.backbones.imagenet import (
    ImageShape,
    add_stage,
    normalized_images,
    torch_conv,
    torch_depthwise,
    torch_stem,
)
from keras_lightdet.builder import backbone_builder, check_choice
from keras_lightdet.classification import Classifier, classification_head
from keras_lightdet.types import Config, Tensor

STEM_WIDTH = 24
REPEATS = (4, 8, 4)  # units of stages 2 to 4
UNITS = ("split", "keep")


@dataclass(frozen=True)
class Variant:
    """A width of table 5."""

    widths: tuple[int, int, int]  # channels of stages 2 to 4
    last_width: int  # channels of conv5


VARIANTS = {
    0.5: Variant((48, 96, 192), 1024),
    1.0: Variant((116, 232, 464), 1024),
    1.5: Variant((176, 352, 704), 1024),
    2.0: Variant((244, 488, 976), 2048),
}


@backbone_builder(VARIANTS, "width")
def ShuffleNetV2(  # noqa: N802 - builders are CapWords
    input_shape: ImageShape = (None, None, 3),
    *,
    width: float = 1.0,
    unit: str = "split",
    extra_depthwise: bool = False,
    num_classes: int | None = None,
    name: str = "shufflenet_v2",
) -> keras.Model:
    """Builds ShuffleNetV2 (section 3, table 5): units that leave half of the channels unchanged.

    Args:
        input_shape: Height and width in pixels, of any size, or `None`; 3 channels, 0..255 RGB.
        width: 0.5, 1.0, 1.5 or 2.0, the paper's sizes.
        unit: "split": both branches of a unit of stride 2 have half of the channels, and every unit ends in a
            shuffle, as in torchvision, whose weights `keras_lightdet.foreign_weights` reads. "keep": the authors' form;
            the branch without expansion keeps its channels, and units of stride 1 start with the shuffle. This one
            meets the paper's 146, 299 and 591 M multiply-adds.
        extra_depthwise: `True` adds a 3x3 depthwise convolution before the first 1x1 of every unit: V2* of section 4,
            which has a larger receptive field and is better in detection.
        num_classes: `None` for features; else a `Classifier`, with one more 1x1 convolution, conv5.
        name: Name of the model.

    Returns:
        A model: images `[B, H, W, 3]` -> `{"P3": [B, ceil(H/8), ceil(W/8), C3], "P4": .., "P5": ..}`, stages 2 to 4;
        or -> logits `[B, num_classes]`.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design", ECCV 2018.
    """
    size = VARIANTS[width]
    # conv1, max pooling, stages 2 to 4
    images, x = normalized_images(input_shape)
    x = torch_stem(x, STEM_WIDTH, 3)
    features = shuffle_stages(x, size.widths, unit=unit, kernel_size=3, extra_depthwise=extra_depthwise)
    if num_classes is None:
        return keras.Model(images, features, name=name)
    x = torch_conv(features["P5"], size.last_width, activation="relu", name="conv5")
    return Classifier(images, classification_head(x, num_classes), name)


def shuffle_stages(
    x: keras.KerasTensor, widths: Sequence[int], *, unit: str, kernel_size: int, extra_depthwise: bool = False
) -> dict[str, keras.KerasTensor]:
    """Adds stages 2 to 4 to the stem's output at stride 4; the results are "P3", "P4" and "P5".

    `widths` are the even channels of the stages, `kernel_size` is the odd side of the depthwise kernels. The other
    arguments are those of `ShuffleNetV2`.
    """
    check_choice("unit", unit, UNITS)
    if len(widths) != len(REPEATS) or any(width < 2 or width % 2 for width in widths):
        raise ValueError(f"Expected three even widths, got {widths!r}.")
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"Expected an odd kernel_size, got {kernel_size!r}.")
    block = partial(_unit, unit=unit, kernel_size=kernel_size, extra_depthwise=extra_depthwise)
    features = {}
    for stage, (width, count) in enumerate(zip(widths, REPEATS, strict=True), start=2):
        features[f"P{stage + 1}"] = x = add_stage(x, block, width, count, name=f"stage{stage}")
    return features


def _unit(
    x: keras.KerasTensor, width: int, strides: int, *, unit: str, kernel_size: int, extra_depthwise: bool, name: str
) -> keras.KerasTensor:
    """Unit of stride 1, where half of the channels stay, or of stride 2, with two branches (figs. 3c and 3d)."""
    if strides == 1:
        if unit == "keep":  # even channels stay, odd ones go through the branch
            x = ChannelShuffle(width // 2, name=f"{name}_shuffle")(x)
        shortcut, x = ops.split(x, 2, axis=-1)
    else:
        shortcut_width = width // 2 if unit == "split" else x.shape[-1]
        if shortcut_width >= width:
            raise ValueError(
                f"Expected {name} to have more than the {shortcut_width} channels of its input, got {width}. Widen it."
            )
        shortcut = torch_depthwise(x, kernel_size, strides, activation=None, name=f"{name}_shortcut_depthwise")
        shortcut = torch_conv(shortcut, shortcut_width, activation="relu", name=f"{name}_shortcut_project")
    # Only batch norm follows a depthwise convolution (guideline G4).
    if extra_depthwise:
        x = torch_depthwise(x, activation=None, name=f"{name}_extra_depthwise")
    x = torch_conv(x, width // 2, activation="relu", name=f"{name}_expand")
    x = torch_depthwise(x, kernel_size, strides, activation=None, name=f"{name}_depthwise")
    x = torch_conv(x, width - shortcut.shape[-1], activation="relu", name=f"{name}_project")
    x = layers.Concatenate(name=f"{name}_concat")([shortcut, x])
    return ChannelShuffle(2, name=f"{name}_shuffle")(x) if unit == "split" else x


@keras.saving.register_keras_serializable("keras_lightdet")
class ChannelShuffle(layers.Layer):
    """Shuffles the channels of `[B, H, W, C]` in `groups` groups of `n = C / groups`: channel `g * n + i` becomes
    channel `i * groups + g` (Zhang et al. 2018, section 3.1).

    It works on three dimensions, because phones' accelerators support four at most.

    Args:
        groups: Number of groups.
    """

    def __init__(self, groups: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.groups = groups

    def build(self, input_shape: tuple[int, ...]) -> None:
        """Checks that the channels are a multiple of `groups`."""
        if input_shape[-1] % self.groups:
            raise ValueError(f"Expected channels in {self.groups} equal groups, got {input_shape[-1]}.")

    def call(self, inputs: Tensor) -> Tensor:
        """Returns `inputs` with the channels in their new order."""
        _, height, width, channels = ops.shape(inputs)
        x = ops.reshape(inputs, (-1, self.groups, channels // self.groups))
        return ops.reshape(ops.transpose(x, (0, 2, 1)), (-1, height, width, channels))

    def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the shape of the input."""
        return input_shape

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "groups": self.groups}
