"""The costs of a model: parameters, multiply-adds, memory and memory access, per layer and in total."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np

from keras_lightdet.analysis.trace import Call, Trace, is_opaque, trace

_MILLION = 1e6


@dataclass(frozen=True)
class LayerCost:
    """The costs of one call of a layer, for one image.

    Attributes:
        name: Name of the layer after the names of the models that contain it.
        kind: Name of its class.
        output_shape: Shape of the first output, without the batch.
        parameters: Weights other than those of batch norm; 0 at a second call.
        bn_parameters: Batch norm's gamma and beta.
        bn_statistics: Batch norm's moving mean and variance.
        macs: Multiply-adds of convolutions and dense layers, each counted once (FLOPs are twice as many).
        activation_bytes: Size of the outputs in bytes.
        memory_access: Number of values read and written: inputs, outputs and weights (Ma et al. 2018, section 2, G1).
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    bn_parameters: int
    bn_statistics: int
    macs: int
    activation_bytes: int
    memory_access: int


@dataclass(frozen=True)
class ModelCost:
    """The costs of a model's layers in its Keras graph, without fusion or in-place operations.

    Attributes:
        layers: One entry per call of a layer, in the order of execution.
        peak_activation_bytes: Maximum size in bytes of the activations that are needed at one time.
        uncounted: Layers and operations whose multiply-adds are unknown and not in the totals.
    """

    layers: tuple[LayerCost, ...]
    peak_activation_bytes: int
    uncounted: tuple[str, ...]

    @property
    def parameters(self) -> int:
        """Weights other than those of batch norm."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def bn_parameters(self) -> int:
        """Gammas and betas of the batch norms."""
        return sum(layer.bn_parameters for layer in self.layers)

    @property
    def bn_statistics(self) -> int:
        """Moving means and variances of the batch norms."""
        return sum(layer.bn_statistics for layer in self.layers)

    @property
    def trainable_parameters(self) -> int:
        """All weights but the moving means and variances; those of frozen layers are included."""
        return self.parameters + self.bn_parameters

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions and dense layers."""
        return sum(layer.macs for layer in self.layers)

    @property
    def activation_bytes(self) -> int:
        """Size of all layers' outputs in bytes, which training keeps in memory."""
        return sum(layer.activation_bytes for layer in self.layers)

    @property
    def memory_access(self) -> int:
        """Number of values read and written by all layers."""
        return sum(layer.memory_access for layer in self.layers)

    def table(self) -> str:
        """Returns the layers and the totals as text, one line each."""
        header = ("layer", "kind", "output", "parameters", "bn", "MACs (M)", "memory (kB)", "access (M)")
        rows = [_row(layer.name, layer.kind, "x".join(map(str, layer.output_shape)), layer) for layer in self.layers]
        rows.append(_row("total", "", "", self))
        widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
        lines = [
            "  ".join(
                cell.ljust(width) if column < 3 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in (header, *rows)
        ]
        lines.append(f"batch norm statistics: {self.bn_statistics}")
        lines.append(f"peak of activations: {self.peak_activation_bytes / 1000:.1f} kB")
        if self.uncounted:
            lines.append(f"MACs not counted of: {', '.join(self.uncounted)}")
        return "\n".join(lines)


def cost(model: keras.Model, input_shape: Sequence[int] | None = None) -> ModelCost:
    """Computes the costs of a model for one image.

    Convolutions (grouped, dilated, depthwise, separable, transposed) and dense layers have MACs; biases, batch norm,
    activations, sums and pooling have none. The weights of a shared layer are counted once, its MACs at each call.

    Args:
        model: A functional or sequential model, or a detector or segmenter (its `networks` at its input size, without
            decoding and selection).
        input_shape: `(height, width, channels)`; `None` for the model's own.

    Returns:
        The costs by layer and in total, with a `table()`.

    Raises:
        ValueError: If the input size is unknown, or the model is not functional.

    Reference:
        Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design", ECCV 2018.
    """
    traced = trace(model, input_shape)
    layers = tuple(_layer_cost(call) for call in traced.calls)
    uncounted = tuple(call.name for call in traced.calls if count_macs(call) is None)
    return ModelCost(layers, _peak_bytes(traced), uncounted)


def count_macs(call: Call) -> int | None:
    """Returns the multiply-adds of one call, or `None` if its kind is unknown."""
    layer = call.operation
    if isinstance(layer, keras.layers.Conv2DTranspose):
        return _positions(layer, call.inputs[0].shape) * math.prod(layer.kernel.shape)
    if isinstance(layer, keras.layers.SeparableConv2D):
        kernels = math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)
        return _positions(layer, call.outputs[0].shape) * kernels
    if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
        return _positions(layer, call.outputs[0].shape) * math.prod(layer.kernel.shape)
    if isinstance(layer, keras.layers.Dense):
        return math.prod(call.outputs[0].shape[1:-1]) * math.prod(layer.kernel.shape)
    return None if is_opaque(layer) else 0


def _positions(layer: keras.Layer, shape: Sequence[int]) -> int:
    return math.prod(shape[1:-1] if layer.data_format == "channels_last" else shape[2:])


def _layer_cost(call: Call) -> LayerCost:
    layer = call.operation
    weights = layer.weights if isinstance(layer, keras.Layer) else []
    num_weights = _elements(weights)
    counted = num_weights if call.first else 0
    statistics = 0
    is_batch_norm = isinstance(layer, keras.layers.BatchNormalization)
    if is_batch_norm and call.first:
        statistics = _elements([layer.moving_mean, layer.moving_variance])
    return LayerCost(
        name=call.name,
        kind=call.kind,
        output_shape=tuple(call.outputs[0].shape[1:]),
        parameters=0 if is_batch_norm else counted,
        bn_parameters=counted - statistics if is_batch_norm else 0,
        bn_statistics=statistics,
        macs=count_macs(call) or 0,
        activation_bytes=sum(map(_bytes, call.outputs)),
        memory_access=_elements(call.inputs) + _elements(call.outputs) + num_weights,
    )


def _peak_bytes(traced: Trace) -> int:
    last_use = {id(x): step for step, call in enumerate(traced.calls) for x in call.inputs}
    last_use.update((id(x), len(traced.calls)) for x in traced.outputs)
    alive = {id(x): _bytes(x) for x in traced.inputs}
    peak = sum(alive.values())
    for step, call in enumerate(traced.calls):
        alive.update((id(x), _bytes(x)) for x in call.outputs)
        peak = max(peak, sum(alive.values()))
        alive = {key: size for key, size in alive.items() if last_use.get(key, step) > step}
    return peak


def _elements(tensors: Sequence[keras.KerasTensor | keras.Variable]) -> int:
    return sum(math.prod(tensor.shape) for tensor in tensors)


def _bytes(tensor: keras.KerasTensor) -> int:
    return math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize


def _row(name: str, kind: str, shape: str, costs: LayerCost | ModelCost) -> tuple[str, ...]:
    return (
        name,
        kind,
        shape,
        str(costs.parameters),
        str(costs.bn_parameters),
        f"{costs.macs / _MILLION:.3f}",
        f"{costs.activation_bytes / 1000:.1f}",
        f"{costs.memory_access / _MILLION:.3f}",
    )
