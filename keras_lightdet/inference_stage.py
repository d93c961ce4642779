"""Stages: a detector as the chain of functions that its file is made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import tensorflow as tf

Tensors = dict[str, tf.Tensor]


@dataclass(frozen=True)
class InferenceStage:
    """One function of a detector at inference, on a batch of one.

    A file is made stage by stage: those with weights may be quantized, those without decode boxes, choose and sample,
    and stay float32.

    Attributes:
        name: For people.
        function: Named tensors -> named tensors, float32 but for "images".
        inputs: What it takes of the "images" (0..255) and of the stages before.
        has_weights: Whether it has weights.
        limits: By output, the ends beyond which all values decode to the same; 8 bits go to what lies between.
    """

    name: str
    function: Callable[[Tensors], Tensors]
    inputs: tuple[str, ...]
    has_weights: bool
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
