"""How much of the image a unit of a layer can see."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import keras

from keras_lightdet.analysis.graph import Call, is_opaque, trace

# For models of free input size: large enough that no layer of stride 128 shrinks to one cell.
_FREE_SIDE = 512
_POOLS = (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)
_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)
_SHIFTS = (keras.layers.ZeroPadding2D, keras.layers.Cropping2D)


class ReceptiveField(NamedTuple):
    """The part of the input that a unit depends on.

    Attributes:
        size: Side in pixels of the input, borders of padding included; infinite behind a global pooling.
        stride: Pixels of the input between neighboring units; infinite where there is one unit.
    """

    size: float
    stride: float


_PIXEL = ReceptiveField(1, 1)
_WHOLE = ReceptiveField(math.inf, math.inf)


def receptive_field(model: keras.Model, layer_name: str, input_shape: Sequence[int] | None = None) -> ReceptiveField:
    """Computes the theoretical receptive field of a layer's units.

    Where branches meet, the larger field and the finer stride count; of height and width, the larger. A global
    pooling, a flattening or a dense layer behind one sees the whole image, and so does all that it weighs:
    a pyramid with channel attention is infinite by this count.

    Args:
        model: A functional or sequential model or a OneStageDetector, as for `cost`.
        layer_name: The layer; one within a nested model is "model/layer", or "layer" where no other is so named.
        input_shape: `(height, width, channels)`; the field does not depend on it.

    Returns:
        `(size, stride)` in pixels of the input.

    Raises:
        ValueError: If no layer or several are so named, or if a layer on the way is of an unknown kind.
    """
    graph = trace(model, input_shape, free_side=_FREE_SIDE)
    wanted = _find(graph.calls, layer_name)
    fields = {id(x): (_PIXEL, _PIXEL) for x in graph.inputs}
    for call in graph.calls:
        before = [fields[id(x)] for x in call.inputs]
        after = tuple(_step(call, axis, [field[axis] for field in before]) for axis in (0, 1))
        fields.update((id(x), after) for x in call.outputs)
        if call is wanted:
            break
    height, width = fields[id(wanted.outputs[0])]
    return ReceptiveField(max(height.size, width.size), max(height.stride, width.stride))


def _find(calls: Sequence[Call], layer_name: str) -> Call:
    found = [c for c in calls if c.name == layer_name] or [
        c for c in calls if c.first and c.name.rsplit("/", 1)[-1] == layer_name
    ]
    if len(found) != 1:
        names = [c.name for c in found] or [c.name for c in calls]
        raise ValueError(f"Expected the name of one layer, got {layer_name!r}. Take one of {', '.join(names)}.")
    return found[0]


def _step(call: Call, axis: int, before: Sequence[ReceptiveField]) -> ReceptiveField:
    """Returns the field behind a call along one axis (0: height), given those of its inputs."""
    layer = call.operation
    size = max((field.size for field in before), default=_PIXEL.size)
    stride = min((field.stride for field in before), default=_PIXEL.stride)
    if isinstance(layer, keras.layers.Conv2DTranspose):
        reach = (layer.kernel_size[axis] - 1) * layer.dilation_rate[axis]
        neighbors = math.ceil((reach + 1) / layer.strides[axis]) - 1
        return ReceptiveField(_grown(size, neighbors, stride), stride / layer.strides[axis])
    if isinstance(layer, _CONVOLUTIONS):
        reach = (layer.kernel_size[axis] - 1) * layer.dilation_rate[axis]
        return ReceptiveField(_grown(size, reach, stride), stride * layer.strides[axis])
    if isinstance(layer, _POOLS):
        return ReceptiveField(_grown(size, layer.pool_size[axis] - 1, stride), stride * layer.strides[axis])
    if isinstance(layer, keras.layers.UpSampling2D):
        neighbors = 0 if layer.interpolation == "nearest" else 1
        return ReceptiveField(_grown(size, neighbors, stride), stride / layer.size[axis])
    if isinstance(layer, _SHIFTS):
        return ReceptiveField(size, stride)
    if is_opaque(layer) and not isinstance(layer, keras.layers.Dense):
        raise ValueError(f"Expected layers whose reach is known, got {call.name!r} ({call.kind}).")
    return _through(call, axis, ReceptiveField(size, stride))


def _through(call: Call, axis: int, field: ReceptiveField) -> ReceptiveField:
    """Returns the field behind a call that works on each position alone, or on all positions at once."""
    maps = [x.shape for x in call.inputs if len(x.shape) >= 4]
    got = call.outputs[0].shape
    if len(got) >= 4 and got[1 + axis] == max((shape[1 + axis] for shape in maps), default=None):
        return field
    if len(got) < 4 or got[1 + axis] == 1:
        return _WHOLE
    raise ValueError(f"Expected layers whose reach is known, got {call.name!r} ({call.kind}).")


def _grown(size: float, neighbors: int, stride: float) -> float:
    return size + neighbors * stride if neighbors else size  # 0 neighbors of infinite stride add nothing.
