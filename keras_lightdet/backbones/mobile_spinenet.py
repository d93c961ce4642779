"""Mobile SpineNet (Du et al. 2020, appendix A): a scale-permuted network of inverted residuals."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import keras

from keras_lightdet.backbones.imagenet import classifier, normalized_images
from keras_lightdet.backbones.scale_permuted import (
    Block,
    Node,
    average_levels,
    check_blocks,
    enlarge,
    permute_scales,
)
from keras_lightdet.layers import SqueezeExcite, conv_bn_act, depthwise_bn_act, inverted_residual

KIND = "mbconv"
WIDTHS = {0: 8, 1: 16, 2: 24, 3: 40, 4: 80, 5: 112, 6: 112, 7: 112}  # by level, before scaling; 0 is the stem
EXPANSION = 6
SQUEEZE = SqueezeExcite(0.2, "relu", "hard_sigmoid")

# Mobile SpineNet-49 (the released code), blocks 2 to 17.
MOBILE_SPINENET = tuple(
    Block(level, KIND, parents, output)
    for level, parents, output in (
        (2, (0, 1), False),
        (2, (1, 2), False),
        (4, (1, 2), False),
        (3, (3, 4), False),
        (4, (3, 5), False),
        (6, (4, 6), False),
        (4, (4, 6), False),
        (5, (7, 8), False),
        (7, (7, 9), False),
        (5, (9, 10), False),
        (5, (9, 11), False),
        (4, (6, 11), True),
        (3, (5, 11), True),
        (5, (8, 13), True),
        (7, (6, 15), True),
        (6, (13, 15), True),
    )
)


class Scaling(NamedTuple):
    """A size: factor of all channels, and channels of the pyramid."""

    width: float
    out_width: int


VARIANTS = {"49xs": Scaling(0.6, 24), "49s": Scaling(0.65, 40), "49": Scaling(1.0, 48)}


def MobileSpineNet(  # noqa: N802 - builders are CapWords
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    *,
    variant: str = "49",
    blocks: Sequence[Block] = MOBILE_SPINENET,
    activation: str = "swish",
    drop_path_rate: float = 0.0,
    num_classes: int | None = None,
    name: str = "mobile_spinenet",
) -> keras.Model:
    """Builds a mobile SpineNet, or another graph of its blocks.

    Args:
        input_shape: Height and width in pixels, of any size, or `None`; 3 channels, 0..255 RGB.
        variant: "49xs", "49s" or "49".
        blocks: The permuted part, all of the kind "mbconv".
        activation: Keras name.
        drop_path_rate: See `SpineNet`.
        num_classes: `None` for features; else the classifier, which averages the pyramid at the size of P3.
        name: Name of the model.

    Returns:
        A model: images `[B, H, W, 3]` -> `{"P3": [B, ceil(H/8), ceil(W/8), C], .., "P7": ..}` of 24, 40 or 48
        channels; or -> logits `[B, num_classes]`.

    Raises:
        ValueError: If an argument is none of the above.

    Reference:
        Du et al., "SpineNet: Learning Scale-Permuted Backbone for Recognition and Localization", CVPR 2020.
    """
    if variant not in VARIANTS:
        raise ValueError(f"Expected variant to be one of {sorted(VARIANTS)}, got {variant!r}.")
    blocks = tuple(Block(*block) for block in blocks)
    check_blocks(blocks, (KIND,))
    scaling = VARIANTS[variant]
    widths = {level: int(width * scaling.width) for level, width in WIDTHS.items()}
    images, x = normalized_images(input_shape, num_classes)
    x = conv_bn_act(x, widths[0], 3, 2, activation=activation, name="stem")
    mbconv = partial(inverted_residual, expansion=EXPANSION, activation=activation, squeeze=SQUEEZE)
    stem = []
    for level in (1, 2):
        x = mbconv(x, widths[level], strides=level, name=f"block{level - 1}")
        stem.append(Node(level, KIND, x))

    def resample(node: Node, block: Block, *, name: str) -> keras.KerasTensor:
        """Depthwise steps down, or pixels repeated, and a linear 1x1."""
        x = node.x
        for step in range(1, block.level - node.level + 1):
            x = depthwise_bn_act(x, 3, 2, activation=activation, name=f"{name}_depthwise{step}")
        if node.level > block.level:
            x = enlarge(x, node.level, block.level, images, name=name)
        return conv_bn_act(x, widths[block.level], activation=None, name=f"{name}_match")

    def transform(x: keras.KerasTensor, block: Block, index: int, *, name: str) -> keras.KerasTensor:
        return mbconv(x, widths[block.level], drop_path_rate=drop_path_rate * (index + 1) / len(blocks), name=name)

    outputs = permute_scales(stem, blocks, resample=resample, transform=transform, activation=activation)
    pyramid = {
        level: conv_bn_act(x, scaling.out_width, activation=activation, name=f"{level.lower()}_out")
        for level, x in outputs.items()
    }
    if num_classes is None:
        return keras.Model(images, pyramid, name=name)
    architecture = {
        "builder": "MobileSpineNet",
        "variant": variant,
        "blocks": [list(block) for block in blocks],
        "activation": activation,
        "drop_path_rate": drop_path_rate,
    }
    return classifier(images, average_levels(pyramid, images), num_classes, architecture, name=name)
