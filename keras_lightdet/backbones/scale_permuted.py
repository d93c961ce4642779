"""Scale-permuted networks (Du et al. 2020, section 3): blocks whose resolution goes up and down, as a graph of data."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import keras
from keras import layers

from keras_lightdet.layers import CropToMatch, NearestUpsample2D, activate

STEM_BLOCKS = 2
MIN_LEVEL = 1  # of a block; the stem's first convolution halves the image
OUTPUT_LEVELS = (3, 4, 5, 6, 7)


class Block(NamedTuple):
    """A block of the permuted part.

    Attributes:
        level: It works at 1 / 2^level of the image's sides.
        kind: Of its layers, such as "bottleneck".
        parents: The two blocks it joins, counted from 0 with the stem's two first.
        output: Whether it is the pyramid's map of its level.
    """

    level: int
    kind: str
    parents: tuple[int, int]
    output: bool = False


class Node(NamedTuple):
    """A built block: its level, its kind and what it gives, `[B, H, W, C]`."""

    level: int
    kind: str
    x: keras.KerasTensor


def check_blocks(blocks: Sequence[Block], kinds: Sequence[str]) -> None:
    """Checks that the blocks make a network.

    Raises:
        ValueError: If a block's kind is none of `kinds`, its level or its parents do not exist, or the outputs are not
            one of each level 3 to 7.
    """
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
    """Finds, for each block, those before it that join in because nothing else takes what they give.

    Only outputs take them, as they are, from blocks of their own level and kind (section 3.2).

    Args:
        stem: Level and kind of the stem's blocks.
        blocks: The permuted part.
    """
    kinds, used, found = list(stem), set(), []
    for block in blocks:
        own = (block.level, block.kind)
        used.update(block.parents)
        extra = [j for j, kind in enumerate(kinds) if block.output and j not in used and kind == own]
        used.update(extra)
        found.append(tuple(extra))
        kinds.append(own)
    return found


def permute_scales(
    stem: Sequence[Node],
    blocks: Sequence[Block],
    *,
    resample: Callable[..., keras.KerasTensor],
    transform: Callable[..., keras.KerasTensor],
    activation: str,
) -> dict[str, keras.KerasTensor]:
    """Adds the permuted part: each block sums its parents, brought to its scale, and works on the sum.

    Args:
        stem: The stem's blocks.
        blocks: The permuted part.
        resample: `(node, block, name=..)` -> what the node gives, in the block's size and channels.
        transform: `(x, block, index, name=..)` -> what the block, the `index`th of the permuted part, makes of `x`.
        activation: Keras name, applied to the sum.

    Returns:
        The outputs by level, fine to coarse: `{"P3": [B, ceil(H/8), ceil(W/8), C3], .., "P7": ..}`.
    """
    nodes, outputs = list(stem), {}
    extra_parents = unused_parents([node[:2] for node in stem], blocks)
    for index, (block, extra) in enumerate(zip(blocks, extra_parents, strict=True)):
        name = f"block{index + len(stem)}"
        parents = [resample(nodes[parent], block, name=f"{name}_from{parent}") for parent in block.parents]
        x = layers.Add(name=f"{name}_merge")([*parents, *(nodes[parent].x for parent in extra)])
        x = transform(activate(x, activation, name=f"{name}_act"), block, index, name=name)
        nodes.append(Node(block.level, block.kind, x))
        if block.output:
            outputs[f"P{block.level}"] = x
    return dict(sorted(outputs.items()))


def enlarge(
    x: keras.KerasTensor, from_level: int, to_level: int, images: keras.KerasTensor, *, name: str
) -> keras.KerasTensor:
    """Repeats pixels, and cuts what stands over where the finer map's sides are no multiples of the coarser one's."""
    x = NearestUpsample2D(2 ** (from_level - to_level), name=f"{name}_enlarge")(x)
    step = 2**to_level
    return CropToMatch(name=f"{name}_crop")(x, images[:, ::step, ::step, :1])


def average_levels(pyramid: Mapping[str, keras.KerasTensor], images: keras.KerasTensor) -> keras.KerasTensor:
    """Averages the levels at the size of P3, for a classifier (section 4.4): `[B, ceil(H/8), ceil(W/8), C]`."""
    maps = []
    for level, x in pyramid.items():
        number = int(level.removeprefix("P"))
        maps.append(x if number == 3 else enlarge(x, number, 3, images, name=f"{level.lower()}_average"))
    return layers.Average(name="average")(maps)
