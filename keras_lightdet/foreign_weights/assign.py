"""Assigns PyTorch's tensors to Keras' variables: each tensor to one variable, each variable from one tensor."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np

from keras_lightdet.errors import WeightsError
from keras_lightdet.foreign_weights.torch_file import TensorDict
from keras_lightdet.layers import TORCH_NORM, WeightedFusion

_SHOWN = 5  # names that an error lists
# Axes of PyTorch's kernels in Keras' order: [out, in, h, w] -> [h, w, in, out]; [channels, 1, h, w] -> [h, w,
# channels, 1]; [out, in] -> [in, out].
_CONV_AXES, _DEPTHWISE_AXES, _DENSE_AXES = (2, 3, 1, 0), (2, 3, 0, 1), (1, 0)
_KERNEL_AXES: dict[type[keras.Layer], tuple[int, ...]] = {
    keras.layers.DepthwiseConv2D: _DEPTHWISE_AXES,
    keras.layers.Conv2D: _CONV_AXES,
    keras.layers.Dense: _DENSE_AXES,
}
_COUNTER = "num_batches_tracked"  # of batch norms; Keras does not need it


def assign_tensors(
    modules: Mapping[str, keras.Layer], tensors: TensorDict, *, source: str, ignore_prefixes: Sequence[str] = ()
) -> None:
    """Sets the weights of layers to the tensors of the corresponding PyTorch modules.

    All tensors are checked before any weight changes.

    Args:
        modules: Layers (convolution, depthwise or separable convolution, batch norm, dense, `WeightedFusion`) by the
            name of their module; separable convolutions and `WeightedFusion` as in timm and effdet.
        tensors: Arrays by name, such as "layer1.0.conv1.weight".
        source: Origin of the tensors, for messages.
        ignore_prefixes: Prefixes of the names of tensors that are not needed.

    Raises:
        WeightsError: If a tensor is missing or not needed, or has another shape or non-finite values.
    """
    values, assigned = [], set()
    for module, layer in modules.items():
        for suffix, (variable, axes) in module_tensors(layer).items():
            key = f"{module}.{suffix}"
            values.append((variable, _read(tensors, key, variable, axes, layer=layer.name, source=source)))
            assigned.add(key)
        if isinstance(layer, keras.layers.BatchNormalization):
            assigned.add(f"{module}.{_COUNTER}")
    unused = [key for key in tensors if key not in assigned and not key.startswith(tuple(ignore_prefixes))]
    if unused:
        raise WeightsError(
            f"Expected every tensor of {source} to have its layer, got {len(unused)} without one: "
            f"{', '.join(unused[:_SHOWN])}. Give the weights of the same network, built with the same size."
        )
    for variable, value in values:
        variable.assign(value)


def scale_gammas(tensors: TensorDict, modules: Mapping[str, keras.Layer], epsilon: float) -> TensorDict:
    """Scales the gammas of batch norms with PyTorch's default epsilon so that the results are those of `epsilon`.

    Args:
        tensors, modules: See `assign_tensors`.
        epsilon: Of the batch norms of the network that the tensors are from.
    """
    scaled = dict(tensors)
    if epsilon == TORCH_NORM.epsilon:
        return scaled
    for module, layer in modules.items():
        gamma, variance = (tensors.get(f"{module}.{suffix}") for suffix in ("weight", "running_var"))
        if not isinstance(layer, keras.layers.BatchNormalization) or gamma is None or variance is None:
            continue
        if gamma.shape == variance.shape == tuple(layer.gamma.shape):
            with np.errstate(divide="ignore", invalid="ignore"):  # `assign_tensors` refuses non-finite values
                scale = np.sqrt((variance.astype("float64") + layer.epsilon) / (variance + epsilon))
                scaled[f"{module}.weight"] = (gamma * scale).astype("float32")
    return scaled


def module_tensors(layer: keras.Layer) -> dict[str, tuple[keras.Variable, tuple[int, ...]]]:
    """Returns, for each tensor of the layer's PyTorch module, the variable and the order of the axes."""
    if isinstance(layer, keras.layers.BatchNormalization):
        variables = (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
        suffixes = ("weight", "bias", "running_mean", "running_var")
        return {suffix: (variable, (0,)) for suffix, variable in zip(suffixes, variables, strict=True)}
    if isinstance(layer, WeightedFusion):
        return {"edge_weights": (layer.weight, (0,))}
    if isinstance(layer, keras.layers.SeparableConv2D):
        return {
            "conv_dw.weight": (layer.depthwise_kernel, _DEPTHWISE_AXES),
            "conv_pw.weight": (layer.pointwise_kernel, _CONV_AXES),
            **_bias(layer, "conv_pw.bias"),
        }
    for kind, axes in _KERNEL_AXES.items():
        if isinstance(layer, kind):
            return {"weight": (layer.kernel, axes), **_bias(layer, "bias")}
    raise ValueError(f"Expected a convolution, batch norm or dense layer, got {layer.name!r} ({type(layer)}).")


def _bias(layer: keras.Layer, suffix: str) -> dict[str, tuple[keras.Variable, tuple[int, ...]]]:
    return {} if layer.bias is None else {suffix: (layer.bias, (0,))}


def _read(
    tensors: TensorDict, key: str, variable: keras.Variable, axes: tuple[int, ...], *, layer: str, source: str
) -> np.ndarray:
    """Returns a tensor in the shape of the variable."""
    shape = tuple(variable.shape[axes.index(axis)] for axis in range(len(axes)))
    if key not in tensors or tensors[key].shape != shape:
        got = f"shape {tensors[key].shape}" if key in tensors else f"none among {', '.join(list(tensors)[:_SHOWN])}, .."
        raise WeightsError(
            f"Expected {source} to contain {key!r} of shape {shape} for the layer {layer!r}, got {got}. Give the "
            "weights of the same network, or build the model with their size and number of classes."
        )
    value = tensors[key].transpose(axes)
    if value.dtype.kind != "f" or not np.all(np.isfinite(value)):
        raise WeightsError(
            f"Expected {key!r} in {source} to contain finite floats, got {value.dtype} with other values. It is "
            "damaged or from a training that diverged: use another file."
        )
    return value.astype(np.float32)
