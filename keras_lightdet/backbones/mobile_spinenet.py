"""Mobile SpineNet (Du et al. 2020, appendix A): a scale-permuted network of inverted residuals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import keras

from keras_lightdet.backbones.imagenet import ImageShape, normalized_images
from keras_lightdet.backbones.scale_permuted import (
    Block,
    BlockOutput,
    average_levels,
    check_blocks,
    permute_scales,
    upsample,
)
from keras_lightdet.builder import backbone_builder
from keras_lightdet.classification import Classifier, classification_head
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


@dataclass(frozen=True)
class Variant:
    """A size."""

    width: float  # factor of all channels
    out_width: int  # channels of the outputs


VARIANTS = {"49xs": Variant(0.6, 24), "49s": Variant(0.65, 40), "49": Variant(1.0, 48)}


@backbone_builder(VARIANTS)
def MobileSpineNet(  # noqa: N802 - builders are CapWords
    input_shape: ImageShape = (None, None, 3),
    *,
    variant: str = "49",
    blocks: Sequence[Block] = MOBILE_SPINENET,
    activation: str = "swish",
    drop_path_rate: float = 0.0,
    num_classes: int | None = None,
    name: str = "mobile_spinenet",
) -> keras.Model:
    """Builds a mobile SpineNet, or another network of its blocks.

    Args:
        input_shape: Height and width in pixels, of any size, or `None`; 3 channels, 0..255 RGB.
        variant: "49xs", "49s" or "49".
        blocks: The scale-permuted network, all blocks of the kind "mbconv".
        activation: Keras name.
        drop_path_rate: See `SpineNet`.
        num_classes: `None` for features; else a `Classifier`, which averages the outputs at the resolution of P3.
        name: Name of the model.

    Returns:
        A model: images `[B, H, W, 3]` -> `{"P3": [B, ceil(H/8), ceil(W/8), C], .., "P7": ..}` of 24, 40 or 48
        channels; or -> logits `[B, num_classes]`.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Du et al., "SpineNet: Learning Scale-Permuted Backbone for Recognition and Localization", CVPR 2020.
    """
    blocks = tuple(Block(*block) for block in blocks)
    check_blocks(blocks, (KIND,))
    size = VARIANTS[variant]
    widths = {level: int(channels * size.width) for level, channels in WIDTHS.items()}
    mbconv = partial(inverted_residual, expansion=EXPANSION, activation=activation, squeeze=SQUEEZE)

    # Stem network
    images, x = normalized_images(input_shape)
    x = conv_bn_act(x, widths[0], 3, 2, activation=activation, name="stem")
    stem = []
    for level in (1, 2):
        x = mbconv(x, widths[level], strides=level, name=f"block{level - 1}")
        stem.append(BlockOutput(level, KIND, x))
    # Scale-permuted network
    pyramid = permute_scales(
        stem,
        blocks,
        resample=partial(_resample, images, widths, activation=activation),
        transform=lambda x, block, **options: mbconv(x, widths[block.level], **options),
        out_width=size.out_width,
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
    activation: str,
    name: str,
) -> keras.KerasTensor:
    """Adds depthwise convolutions of stride 2 or nearest-neighbor upsampling, and a linear 1x1."""
    x = parent.x
    for step in range(1, block.level - parent.level + 1):
        x = depthwise_bn_act(x, 3, 2, activation=activation, name=f"{name}_depthwise{step}")
    if parent.level > block.level:
        x = upsample(x, parent.level, block.level, images, name=name)
    return conv_bn_act(x, widths[block.level], activation=None, name=f"{name}_match")
