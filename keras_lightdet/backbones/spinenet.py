"""SpineNet (Du et al. 2020): a backbone whose order of scales and connections was searched for."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import keras
from keras import layers

from keras_lightdet.backbones.imagenet import classifier, normalized_images
from keras_lightdet.backbones.scale_permuted import (
    STEM_BLOCKS,
    Block,
    Node,
    average_levels,
    check_blocks,
    enlarge,
    permute_scales,
)
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


class Scaling(NamedTuple):
    """A size of SpineNet (section 3.3).

    Attributes:
        width: Factor of all channels but the stem's first.
        resample: Channels inside a resampling over the width of the block it comes from ("alpha").
        repeats: Copies of each block, one behind the other.
        out_width: Channels of the pyramid.
    """

    width: float
    resample: float
    repeats: int
    out_width: int


VARIANTS = {
    "49s": Scaling(0.65, 0.5, 1, 128),
    "49": Scaling(1.0, 0.5, 1, 256),
    "96": Scaling(1.0, 0.5, 2, 256),
    "143": Scaling(1.0, 1.0, 3, 256),
    "190": Scaling(1.3, 1.0, 4, 512),
}


def SpineNet(  # noqa: N802 - builders are CapWords
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    *,
    variant: str = "49",
    blocks: Sequence[Block] = SPINENET,
    width: float | None = None,
    resample: float | None = None,
    out_width: int | None = None,
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
        blocks: The permuted part.
        width, resample: As in `Scaling`; the variant's if `None`. The search's proxies have a quarter of both.
        out_width: Channels of the pyramid; the variant's if `None`. "49s" has 128 in the released code, while the
            published cost of its RetinaNet is met with 256.
        activation: Keras name: "relu", or "swish" in protocol C.
        drop_path_rate: Chance that the last block's layers are left out of a training step, per image; it grows
            linearly from the first block (0.2 in protocol C).
        drop_block: Chance that a value of a block's layers is dropped in training, in squares, see `DropBlock`
            (protocol A).
        num_classes: `None` for features; else the classifier, which averages the pyramid at the size of P3.
        name: Name of the model.

    Returns:
        A model: images `[B, H, W, 3]` -> `{"P3": [B, ceil(H/8), ceil(W/8), out_width], .., "P7": ..}`; or -> logits
        `[B, num_classes]`.

    Raises:
        ValueError: If an argument is none of the above.

    Reference:
        Du et al., "SpineNet: Learning Scale-Permuted Backbone for Recognition and Localization", CVPR 2020.
    """
    if variant not in VARIANTS:
        raise ValueError(f"Expected variant to be one of {sorted(VARIANTS)}, got {variant!r}.")
    blocks = tuple(Block(*block) for block in blocks)
    check_blocks(blocks, tuple(EXPANSION))
    given = {"width": width, "resample": resample, "out_width": out_width}
    scaling = VARIANTS[variant]._replace(**{key: value for key, value in given.items() if value is not None})
    widths = {level: int(width * scaling.width) for level, width in WIDTHS.items()}
    unit = partial(conv_bn_act, activation=activation)
    images, x = normalized_images(input_shape, num_classes)
    x = unit(x, STEM_WIDTH, 7, 2, name="stem")
    x = layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
    stem = []
    for index in range(STEM_BLOCKS):
        x = _repeat(x, STEM_KIND, widths[STEM_LEVEL], scaling.repeats, activation, name=f"block{index}")
        stem.append(Node(STEM_LEVEL, STEM_KIND, x))

    def to_scale(node: Node, block: Block, *, name: str) -> keras.KerasTensor:
        """1x1 to reduce, the step in size, linear 1x1 to the block's channels (fig. 3)."""
        inner = int(scaling.resample * node.x.shape[-1] / EXPANSION[node.kind])
        x = unit(node.x, inner, name=f"{name}_reduce")
        if node.level < block.level:
            x = unit(x, inner, 3, 2, name=f"{name}_spatial")
            for step in range(1, block.level - node.level):
                x = layers.MaxPooling2D(3, 2, padding="same", name=f"{name}_pool{step}")(x)
        elif node.level > block.level:
            x = enlarge(x, node.level, block.level, images, name=name)
        out = EXPANSION[block.kind] * widths[block.level]
        return conv_bn_act(x, out, activation=None, name=f"{name}_match")

    def transform(x: keras.KerasTensor, block: Block, index: int, *, name: str) -> keras.KerasTensor:
        rates = (drop_path_rate * (index + 1) / len(blocks), drop_block)
        return _repeat(x, block.kind, widths[block.level], scaling.repeats, activation, rates, name=name)

    outputs = permute_scales(stem, blocks, resample=to_scale, transform=transform, activation=activation)
    pyramid = {level: unit(x, scaling.out_width, name=f"{level.lower()}_out") for level, x in outputs.items()}
    if num_classes is None:
        return keras.Model(images, pyramid, name=name)
    architecture = {
        "builder": "SpineNet",
        "variant": variant,
        "blocks": [list(block) for block in blocks],
        **{key: getattr(scaling, key) for key in given},
        "activation": activation,
        "drop_path_rate": drop_path_rate,
        "drop_block": drop_block,
    }
    return classifier(images, average_levels(pyramid, images), num_classes, architecture, name=name)


def _repeat(
    x: keras.KerasTensor,
    kind: str,
    width: int,
    repeats: int,
    activation: str,
    rates: tuple[float, float] = (0.0, 0.0),
    *,
    name: str,
) -> keras.KerasTensor:
    """A block, `repeats` times over (section 3.3)."""
    for copy in range(1, repeats + 1):
        x = _residual(x, kind, width, activation, rates, name=f"{name}_copy{copy}")
    return x


def _residual(
    x: keras.KerasTensor, kind: str, width: int, activation: str, rates: tuple[float, float], *, name: str
) -> keras.KerasTensor:
    """1x1, 3x3 and 1x1 of a bottleneck, or the two 3x3 of a residual block, and the shortcut."""
    unit = partial(conv_bn_act, activation=activation)
    shortcut, out = x, EXPANSION[kind] * width
    if x.shape[-1] != out:
        shortcut = conv_bn_act(x, out, activation=None, name=f"{name}_shortcut")
    if kind == "bottleneck":
        x = unit(x, width, name=f"{name}_reduce")
        x = unit(x, width, 3, name=f"{name}_spatial")
        x = conv_bn_act(x, out, activation=None, name=f"{name}_expand")
    else:
        x = unit(x, width, 3, name=f"{name}_spatial1")
        x = conv_bn_act(x, width, 3, activation=None, name=f"{name}_spatial2")
    depth_rate, block_rate = rates
    if block_rate:
        x = DropBlock(block_rate, name=f"{name}_drop_block")(x)
    return activate(add_shortcut(x, shortcut, depth_rate, name=name), activation, name=f"{name}_out")
