"""InferenceStage: one step of a model at inference, the unit that is converted to TFLite."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from keras_lightdet.types import Tensors

# Limits of logits: the sigmoid is within 0.0004 of 0 or 1 there, below any score threshold.
LOGIT_LIMITS = (-8.0, 8.0)


@dataclass(frozen=True)
class InferenceStage:
    """One function of a model at inference, for a batch of one image.

    A TFLite file is converted stage by stage: stages with weights may be quantized; those without (box decoding, NMS,
    RoI pooling) stay float32.

    Attributes:
        name: Shown in messages.
        function: Named tensors -> named tensors, float32 except "images".
        inputs: Names of the tensors it reads: "images" (0..255) or outputs of earlier stages.
        has_weights: Whether it has weights.
        limits: By output, the bounds beyond which all values decode to nearly the same; int8 quantization covers the
            range between them.
    """

    name: str
    function: Callable[[Tensors], Tensors]
    inputs: tuple[str, ...]
    has_weights: bool
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
