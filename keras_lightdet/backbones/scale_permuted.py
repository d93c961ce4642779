"""Scale-permuted networks (Du et al. 2020, section 3): blocks whose resolution rises and falls, described as data."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import keras
from keras import layers

from keras_lightdet.layers import activate, conv_bn_act, upsample_to_match

STEM_BLOCKS = 2
MIN_LEVEL = 1  # of a block; the stem's first convolution halves the image
OUTPUT_LEVELS = (3, 4, 5, 6, 7)


class Block(NamedTuple):
    """A block of the scale-permuted network."""

    level: int  # the resolution is 1 / 2^level of the image's
    kind: str  # kind of its layers, such as "bottleneck"
    parents: tuple[int, int]  # indices of its two inputs, counted from 0 with the stem's two blocks first
    output: bool = False  # whether it is the output of its level


Blocks: TypeAlias = tuple[Block, ...]  # a scale-permuted network


class BlockOutput(NamedTuple):
    """A block that is built: its level, its kind and its output `[B, H, W, C]`."""

    level: int
    kind: str
    x: keras.KerasTensor


def check_blocks(blocks: Sequence[Block], kinds: Sequence[str]) -> None:
    """Raises a `ValueError` if a block's kind, level or parents do not exist, or the outputs are not one per level."""
    for index, block in enumerate(blocks, start=STEM_BLOCKS):
        first, second = block.parents
        if block.kind not in kinds:
            raise ValueError(f"Expected block {index} to be one of {tuple(kinds)}, got {block.kind!r}.")
        if not MIN_LEVEL <= block.level <= OUTPUT_LEVELS[-1]:
            raise ValueError(
                f"Expected block {index} to have a level from {MIN_LEVEL} to {OUTPUT_LEVELS[-1]}, got {block.level!r}."
            )
        if first == second or not all(0 <= parent < index for parent in block.parents):
            raise ValueError(f"Expected block {index} to have two parents among those before, got {block.parents!r}.")
    outputs = sorted(block.level for block in blocks if block.output)
    if outputs != list(OUTPUT_LEVELS):
        raise ValueError(f"Expected one output at each of the levels {OUTPUT_LEVELS}, got {outputs}.")


def unused_parents(stem: Sequence[tuple[int, str]], blocks: Sequence[Block]) -> list[tuple[int, ...]]:
    """Returns, for each block, the earlier blocks that it adds because no other block has them as parents.

    Only outputs add such blocks, without resampling, from blocks of their own level and kind (section 3.2). `stem` has
    level and kind of the stem's blocks.
    """
    kinds, extra_parents = list(stem), []
    used: set[int] = set()
    for block in blocks:
        own = (block.level, block.kind)
        used.update(block.parents)
        extra = [j for j, kind in enumerate(kinds) if block.output and j not in used and kind == own]
        used.update(extra)
        extra_parents.append(tuple(extra))
        kinds.append(own)
    return extra_parents


def permute_scales(
    stem: Sequence[BlockOutput],
    blocks: Sequence[Block],
    *,
    resample: Callable[..., keras.KerasTensor],
    transform: Callable[..., keras.KerasTensor],
    out_width: int,
    activation: str,
    drop_path_rate: float,
) -> dict[str, keras.KerasTensor]:
    """Adds the scale-permuted network: each block transforms the sum of its resampled parents.

    Args:
        stem: The stem's blocks.
        blocks: The scale-permuted network.
        resample: `(parent, block, name=..)` -> the parent's output in the block's resolution and channels.
        transform: `(x, block, drop_path_rate=.., name=..)` -> the output of the block; `x` is the activated sum.
        out_width: Channels of the outputs, which 1x1 convolutions compute.
        activation: Keras name, applied to the sums and the outputs.
        drop_path_rate: Of the last block; it grows linearly from the first block.

    Returns:
        The outputs by level, fine to coarse: `{"P3": [B, ceil(H/8), ceil(W/8), out_width], .., "P7": ..}`.
    """
    built, outputs = list(stem), {}
    extra_parents = unused_parents([block[:2] for block in stem], blocks)
    for index, (block, extra) in enumerate(zip(blocks, extra_parents, strict=True)):
        name, rate = f"block{index + len(stem)}", drop_path_rate * (index + 1) / len(blocks)
        parents = [resample(built[parent], block, name=f"{name}_from{parent}") for parent in block.parents]
        x = layers.Add(name=f"{name}_merge")([*parents, *(built[parent].x for parent in extra)])
        x = transform(activate(x, activation, name=f"{name}_act"), block, drop_path_rate=rate, name=name)
        built.append(BlockOutput(block.level, block.kind, x))
        if block.output:
            outputs[f"P{block.level}"] = x
    return {
        level: conv_bn_act(outputs[level], out_width, activation=activation, name=f"{level.lower()}_out")
        for level in sorted(outputs)
    }


def upsample(
    x: keras.KerasTensor, from_level: int, to_level: int, images: keras.KerasTensor, *, name: str
) -> keras.KerasTensor:
    """Adds nearest-neighbor upsampling from one level to a finer one."""
    step = 2**to_level
    return upsample_to_match(x, images[:, ::step, ::step, :1], 2 ** (from_level - to_level), name=name)


def average_levels(pyramid: Mapping[str, keras.KerasTensor], images: keras.KerasTensor) -> keras.KerasTensor:
    """Averages the levels at the resolution of P3, for a classifier (section 4.4): `[B, ceil(H/8), ceil(W/8), C]`."""
    maps = []
    for level, x in pyramid.items():
        number = int(level.removeprefix("P"))
        maps.append(x if number == 3 else upsample(x, number, 3, images, name=f"{level.lower()}_average"))
    return layers.Average(name="average")(maps)
