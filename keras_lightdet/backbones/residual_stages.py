"""Stages of inverted residuals, of which MobileNetV2 and EfficientNet consist."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import keras


@dataclass(frozen=True)
class Stage:
    """A row of the table of a network: blocks at one resolution.

    Attributes:
        expansion: Channels inside a block over those of its input.
        width: Channels of the result.
        repeats: Blocks.
        strides: Of the first block.
        kernel_size: Of the depthwise convolutions.
    """

    expansion: int
    width: int
    repeats: int
    strides: int
    kernel_size: int = 3


def residual_stages(
    x: keras.KerasTensor,
    stages: Sequence[Stage],
    levels: Mapping[int, str],
    *,
    block: Callable[..., keras.KerasTensor],
    drop_path_rate: float = 0.0,
) -> dict[str, keras.KerasTensor]:
    """Adds all stages.

    Args:
        x: `[B, H, W, C]`, the stem's output.
        stages: In order; layers are named "stage1_block1", ..
        levels: Names of the results by the number of their stage, counted from 1.
        block: `layers.inverted_residual` with the options that all blocks share.
        drop_path_rate: The blocks' rates of stochastic depth grow linearly from 0 to almost this one.

    Returns:
        The results `[B, H, W, C]` by name.
    """
    features = {}
    num_blocks = sum(stage.repeats for stage in stages)
    rates = (drop_path_rate * index / num_blocks for index in itertools.count())
    for number, stage in enumerate(stages, start=1):
        for index in range(1, stage.repeats + 1):
            x = block(
                x,
                stage.width,
                stage.kernel_size,
                stage.strides if index == 1 else 1,
                expansion=stage.expansion,
                drop_path_rate=next(rates),
                name=f"stage{number}_block{index}",
            )
        if number in levels:
            features[levels[number]] = x
    return features
