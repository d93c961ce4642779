"""Stages of inverted residuals, of which MobileNetV2 and EfficientNet consist."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import keras


@dataclass(frozen=True)
class Stage:
    """A row of the table of a network: blocks at one resolution."""

    expansion: int  # channels inside a block over those of its input
    width: int  # channels of the result
    repeats: int  # number of blocks
    strides: int  # of the first block
    kernel_size: int = 3  # of the depthwise convolutions


def residual_stages(
    x: keras.KerasTensor,
    stages: Sequence[Stage],
    levels: Mapping[int, str],
    *,
    block: Callable[..., keras.KerasTensor],
    drop_path_rate: float = 0.0,
) -> dict[str, keras.KerasTensor]:
    """Adds all stages to the stem's output; layers are named "stage1_block1", ..

    Args:
        levels: Names of the results by the number of their stage, counted from 1.
        block: `layers.inverted_residual` with the options that all blocks share.
        drop_path_rate: The blocks' rates of stochastic depth grow linearly from 0 to almost this one.
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
