"""The receptive field: the region of the image that a unit of a layer depends on."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import keras

from keras_lightdet.analysis.trace import Call, is_opaque, trace

# Input side for models of any input size: large enough for more than one unit at stride 128.
_FREE_SIDE = 512
_POOLS = (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)
_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)
_SHIFTS = (keras.layers.ZeroPadding2D, keras.layers.Cropping2D)


class ReceptiveField(NamedTuple):
    """The receptive field of the units of a layer.

    Attributes:
        size: Height and width in pixels of the input, padding included; infinite after global pooling.
        stride: Distance of neighboring units in pixels of the input; infinite if there is one unit.
    """

    size: float
    stride: float


_PIXEL = ReceptiveField(1, 1)
_WHOLE = ReceptiveField(math.inf, math.inf)


def receptive_field(model: keras.Model, layer_name: str, input_shape: Sequence[int] | None = None) -> ReceptiveField:
    """Computes the theoretical receptive field of a layer's units.

    Where branches merge, it is the larger size and the smaller stride; of height and width, the larger. After global
    pooling, flattening and the like it is infinite. So it is after channel attention, which multiplies a map by such
    values.

    Args:
        model: As for `cost`, with one network.
        layer_name: Name of the layer; in a nested model "model/layer", or "layer" if the name is unique.
        input_shape: `(height, width, channels)`; the receptive field does not depend on it.

    Returns:
        `(size, stride)` in pixels of the input.

    Raises:
        ValueError: If no layer or several have the name, or if a layer before it is of an unknown kind.
    """
    traced = trace(model, input_shape, free_side=_FREE_SIDE)
    target = _find(traced.calls, layer_name)
    fields = {id(x): (_PIXEL, _PIXEL) for x in traced.inputs}
    for call in traced.calls:
        inputs = [fields[id(x)] for x in call.inputs]
        output = (_propagate(call, 0, [height for height, _ in inputs]), _propagate(call, 1, [w for _, w in inputs]))
        fields.update((id(x), output) for x in call.outputs)
        if call is target:
            break
    height, width = fields[id(target.outputs[0])]
    return ReceptiveField(max(height.size, width.size), max(height.stride, width.stride))


def _find(calls: Sequence[Call], layer_name: str) -> Call:
    matches = [call for call in calls if call.name == layer_name] or [
        call for call in calls if call.first and call.name.rsplit("/", 1)[-1] == layer_name
    ]
    if len(matches) != 1:
        names = [call.name for call in matches or calls]
        raise ValueError(f"Expected the name of one layer, got {layer_name!r}. Take one of {', '.join(names)}.")
    return matches[0]


def _propagate(call: Call, axis: int, inputs: Sequence[ReceptiveField]) -> ReceptiveField:
    """Returns the receptive field of a call's output along one axis (0: height), given those of its inputs."""
    layer = call.operation
    size = max((field.size for field in inputs), default=_PIXEL.size)
    stride = min((field.stride for field in inputs), default=_PIXEL.stride)
    if isinstance(layer, keras.layers.Conv2DTranspose):
        extent = (layer.kernel_size[axis] - 1) * layer.dilation_rate[axis]
        neighbors = math.ceil((extent + 1) / layer.strides[axis]) - 1
        return ReceptiveField(_grow(size, neighbors, stride), stride / layer.strides[axis])
    if isinstance(layer, _CONVOLUTIONS):
        neighbors = (layer.kernel_size[axis] - 1) * layer.dilation_rate[axis]
        return ReceptiveField(_grow(size, neighbors, stride), stride * layer.strides[axis])
    if isinstance(layer, _POOLS):
        return ReceptiveField(_grow(size, layer.pool_size[axis] - 1, stride), stride * layer.strides[axis])
    if isinstance(layer, keras.layers.UpSampling2D):
        neighbors = 0 if layer.interpolation == "nearest" else 1
        return ReceptiveField(_grow(size, neighbors, stride), stride / layer.size[axis])
    if isinstance(layer, _SHIFTS):
        return ReceptiveField(size, stride)
    if is_opaque(layer) and not isinstance(layer, keras.layers.Dense):
        raise _unknown(call)
    return _pointwise_or_global(call, axis, ReceptiveField(size, stride))


def _pointwise_or_global(call: Call, axis: int, field: ReceptiveField) -> ReceptiveField:
    """Returns the receptive field of a call that is applied to each position separately, or to all together."""
    maps = [x.shape for x in call.inputs if len(x.shape) >= 4]
    output = call.outputs[0].shape
    if len(output) >= 4 and output[1 + axis] == max((shape[1 + axis] for shape in maps), default=None):
        return field
    if len(output) < 4 or output[1 + axis] == 1:
        return _WHOLE
    raise _unknown(call)


def _unknown(call: Call) -> ValueError:
    return ValueError(f"Expected layers whose receptive field is known, got {call.name!r} ({call.kind}).")


def _grow(size: float, neighbors: int, stride: float) -> float:
    return size + neighbors * stride if neighbors else size  # an infinite stride times 0 neighbors is NaN
