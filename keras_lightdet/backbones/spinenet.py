"""SpineNet (Du et al. 2020): a backbone whose order of scales and connections was found by architecture search."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
from keras import layers

from keras_lightdet.backbones.imagenet import ImageShape, normalized_images
from keras_lightdet.backbones.scale_permuted import (
    STEM_BLOCKS,
    Block,
    BlockOutput,
    average_levels,
    check_blocks,
    permute_scales,
    upsample,
)
from keras_lightdet.builder import DERIVED, backbone_builder
from keras_lightdet.classification import Classifier, classification_head
from keras_lightdet.layers import DropBlock, activate, add_shortcut, conv_bn_act

STEM_WIDTH = 64  # of the first convolution, in every size
STEM_KIND = "bottleneck"
STEM_LEVEL = 2
WIDTHS = {1: 32, 2: 64, 3: 128, 4: 256, 5: 256, 6: 256, 7: 256}  # by level, before scaling
EXPANSION = {"bottleneck": 4, "residual": 1}  # output channels over the width

# SpineNet-49 (fig. 2d and the released code), blocks 2 to 16.
SPINENET = (
    Block(2, "bottleneck", (0, 1)),
    Block(4, "residual", (0, 1)),
    Block(3, "bottleneck", (2, 3)),
    Block(4, "bottleneck", (2, 4)),
    Block(6, "residual", (3, 5)),
    Block(4, "bottleneck", (3, 5)),
    Block(5, "residual", (6, 7)),
    Block(7, "residual", (6, 8)),
    Block(5, "bottleneck", (8, 9)),
    Block(5, "bottleneck", (8, 10)),
    Block(4, "bottleneck", (5, 10), output=True),
    Block(3, "bottleneck", (4, 10), output=True),
    Block(5, "bottleneck", (7, 12), output=True),
    Block(7, "bottleneck", (5, 14), output=True),
    Block(6, "bottleneck", (12, 14), output=True),
)


@dataclass(frozen=True)
class Variant:
    """A size of SpineNet (section 3.3)."""

    width: float  # factor of all channels but those of the first convolution
    resample: float  # channels inside a resampling over the width of the parent block ("alpha")
    repeats: int  # copies of each block in a row
    out_width: int  # channels of the outputs


VARIANTS = {
    "49s": Variant(0.65, 0.5, 1, 128),
    "49": Variant(1.0, 0.5, 1, 256),
    "96": Variant(1.0, 0.5, 2, 256),
    "143": Variant(1.0, 1.0, 3, 256),
    "190": Variant(1.3, 1.0, 4, 512),
}


@backbone_builder(VARIANTS)
def SpineNet(  # noqa: N802 - builders are CapWords
    input_shape: ImageShape = (None, None, 3),
    *,
    variant: str = "49",
    blocks: Sequence[Block] = SPINENET,
    width: float = DERIVED,
    resample: float = DERIVED,
    out_width: int = DERIVED,
    activation: str = "relu",
    drop_path_rate: float = 0.0,
    drop_block: float = 0.0,
    num_classes: int | None = None,
    name: str = "spinenet",
) -> keras.Model:
    """Builds SpineNet, or another network of its search space.

    Args:
        input_shape: Height and width in pixels, of any size, or `None`; 3 channels, 0..255 RGB.
        variant: "49s", "49", "96", "143" or "190".
        blocks: The scale-permuted network.
        width, resample: See `Variant`; the variant's. The search's proxies have a quarter of both.
        out_width: Channels of the outputs; the variant's. "49s" has 128 in the released code, while the published cost
            of its RetinaNet is met with 256.
        activation: Keras name: "relu", or "swish" in protocol C.
        drop_path_rate: Probability that the layers of the last block are skipped in training, per image (stochastic
            depth); it grows linearly from the first block (0.2 in protocol C).
        drop_block: Probability that a value of a block's layers is dropped in training, in squares, see `DropBlock`
            (protocol A).
        num_classes: `None` for features; else a `Classifier`, which averages the outputs at the resolution of P3.
        name: Name of the model.

    Returns:
        A model: images `[B, H, W, 3]` -> `{"P3": [B, ceil(H/8), ceil(W/8), out_width], .., "P7": ..}`; or -> logits
        `[B, num_classes]`.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Du et al., "SpineNet: Learning Scale-Permuted Backbone for Recognition and Localization", CVPR 2020.
    """
    blocks = tuple(Block(*block) for block in blocks)
    check_blocks(blocks, tuple(EXPANSION))
    widths = {level: int(channels * width) for level, channels in WIDTHS.items()}
    add_block = partial(_block, repeats=VARIANTS[variant].repeats, activation=activation)

    # Stem network
    images, x = normalized_images(input_shape)
    x = conv_bn_act(x, STEM_WIDTH, 7, 2, activation=activation, name="stem")
    x = layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
    stem = []
    for index in range(STEM_BLOCKS):
        x = add_block(x, STEM_KIND, widths[STEM_LEVEL], name=f"block{index}")
        stem.append(BlockOutput(STEM_LEVEL, STEM_KIND, x))

    # Scale-permuted network
    def transform(x: keras.KerasTensor, block: Block, **options: Any) -> keras.KerasTensor:
        return add_block(x, block.kind, widths[block.level], drop_block=drop_block, **options)

    pyramid = permute_scales(
        stem,
        blocks,
        resample=partial(_resample, images, widths, ratio=resample, activation=activation),
        transform=transform,
        out_width=out_width,
        activation=activation,
        drop_path_rate=drop_path_rate,
    )
    if num_classes is None:
        return keras.Model(images, pyramid, name=name)
    return Classifier(images, classification_head(average_levels(pyramid, images), num_classes), name)


def _resample(
    images: keras.KerasTensor,
    widths: Mapping[int, int],
    parent: BlockOutput,
    block: Block,
    *,
    ratio: float,
    activation: str,
    name: str,
) -> keras.KerasTensor:
    """Adds a 1x1 to reduce, the change of resolution, and a linear 1x1 to the block's channels (fig. 3)."""
    inner = int(ratio * parent.x.shape[-1] / EXPANSION[parent.kind])
    x = conv_bn_act(parent.x, inner, activation=activation, name=f"{name}_reduce")
    if parent.level < block.level:
        x = conv_bn_act(x, inner, 3, 2, activation=activation, name=f"{name}_spatial")
        for step in range(1, block.level - parent.level):
            x = layers.MaxPooling2D(3, 2, padding="same", name=f"{name}_pool{step}")(x)
    elif parent.level > block.level:
        x = upsample(x, parent.level, block.level, images, name=name)
    return conv_bn_act(x, EXPANSION[block.kind] * widths[block.level], activation=None, name=f"{name}_match")


def _block(
    x: keras.KerasTensor,
    kind: str,
    width: int,
    *,
    repeats: int,
    activation: str,
    drop_path_rate: float = 0.0,
    drop_block: float = 0.0,
    name: str,
) -> keras.KerasTensor:
    """Adds the 1x1, 3x3 and 1x1 of a bottleneck, or the two 3x3 of a residual block, `repeats` times (section 3.3)."""
    conv, linear = partial(conv_bn_act, activation=activation), partial(conv_bn_act, activation=None)
    out = EXPANSION[kind] * width
    for prefix in (f"{name}_copy{copy}" for copy in range(1, repeats + 1)):
        shortcut = x if x.shape[-1] == out else linear(x, out, name=f"{prefix}_shortcut")
        if kind == "bottleneck":
            x = conv(x, width, name=f"{prefix}_reduce")
            x = conv(x, width, 3, name=f"{prefix}_spatial")
            x = linear(x, out, name=f"{prefix}_expand")
        else:
            x = conv(x, width, 3, name=f"{prefix}_spatial1")
            x = linear(x, width, 3, name=f"{prefix}_spatial2")
        if drop_block:
            x = DropBlock(drop_block, name=f"{prefix}_drop_block")(x)
        x = activate(add_shortcut(x, shortcut, drop_path_rate, name=prefix), activation, name=f"{prefix}_out")
    return x
