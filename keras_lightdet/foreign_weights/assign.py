"""From PyTorch's tensors to Keras' variables: every tensor once, every variable once."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np

from keras_lightdet.errors import WeightsError
from keras_lightdet.foreign_weights.torch_file import Tensors
from keras_lightdet.layers import WeightedFusion

# How many names an error lists.
_SHOWN = 5
# Axes of PyTorch's kernels in Keras' order: [out, in, h, w] -> [h, w, in, out]; [channels, 1, h, w] -> [h, w,
# channels, 1]; [out, in] -> [in, out].
_CONV_AXES, _DEPTHWISE_AXES, _DENSE_AXES = (2, 3, 1, 0), (2, 3, 0, 1), (1, 0)
# How many batches a norm has seen; Keras has no use for it.
_COUNTER = "num_batches_tracked"


def assign_tensors(
    modules: Mapping[str, keras.Layer], tensors: Tensors, *, source: str, spare: Sequence[str] = ()
) -> None:
    """Fills layers from the tensors of the PyTorch modules they stand for.

    All is checked before anything is changed.

    Args:
        modules: Layers (convolution, depthwise or separable convolution, batch norm, dense, `WeightedFusion`) by the
            name of their module; the last and the separable ones as timm and effdet lay them out.
        tensors: Arrays by name, such as "layer1.0.conv1.weight".
        source: Where the tensors are from, for messages.
        spare: Modules that the layers may do without, by the starts of their names.

    Raises:
        WeightsError: If a tensor is missing, is left over, or has another shape or values that are not finite.
    """
    values, used = [], set()
    for module, layer in modules.items():
        for part, (variable, axes) in _parts(layer).items():
            key = f"{module}.{part}"
            values.append((variable, _read(tensors, key, variable, axes, layer=layer.name, source=source)))
            used.add(key)
        if isinstance(layer, keras.layers.BatchNormalization):
            used.add(f"{module}.{_COUNTER}")
    left = [key for key in tensors if key not in used and not key.startswith(tuple(spare))]
    if left:
        raise WeightsError(
            f"Expected every tensor of {source} to have its layer, got {len(left)} without one: "
            f"{', '.join(left[:_SHOWN])}. Give the weights of the network that the model is, built with the same size."
        )
    for variable, value in values:
        variable.assign(value)


def with_our_epsilon(tensors: Tensors, modules: Mapping[str, keras.Layer], epsilon: float) -> Tensors:
    """Scales the gammas so that our batch norms' epsilon gives what that of the weights gave.

    Args:
        tensors, modules: As `assign_tensors` takes them.
        epsilon: What the batch norms of the network of the weights add to their variances.
    """
    changed = dict(tensors)
    for module, layer in modules.items():
        gamma, variance = (tensors.get(f"{module}.{part}") for part in ("weight", "running_var"))
        if not isinstance(layer, keras.layers.BatchNormalization) or gamma is None or variance is None:
            continue
        if gamma.shape == variance.shape == tuple(layer.gamma.shape):
            with np.errstate(divide="ignore", invalid="ignore"):  # what is not finite is refused later
                scale = np.sqrt((variance.astype("float64") + layer.epsilon) / (variance + epsilon))
                changed[f"{module}.weight"] = (gamma * scale).astype("float32")
    return changed


def _parts(layer: keras.Layer) -> dict[str, tuple[keras.Variable, tuple[int, ...]]]:
    """Returns the variable and the order of axes for each tensor of the layer's module."""
    if isinstance(layer, keras.layers.BatchNormalization):
        parts = {
            "weight": layer.gamma,
            "bias": layer.beta,
            "running_mean": layer.moving_mean,
            "running_var": layer.moving_variance,
        }
        return {part: (variable, (0,)) for part, variable in parts.items()}
    if isinstance(layer, WeightedFusion):
        return {"edge_weights": (layer.weight, (0,))}
    if isinstance(layer, keras.layers.SeparableConv2D):
        bias = {} if layer.bias is None else {"conv_pw.bias": (layer.bias, (0,))}
        return {
            "conv_dw.weight": (layer.depthwise_kernel, _DEPTHWISE_AXES),
            "conv_pw.weight": (layer.pointwise_kernel, _CONV_AXES),
            **bias,
        }
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        axes = _DEPTHWISE_AXES
    elif isinstance(layer, keras.layers.Conv2D):
        axes = _CONV_AXES
    elif isinstance(layer, keras.layers.Dense):
        axes = _DENSE_AXES
    else:
        raise ValueError(f"Expected a convolution, batch norm or dense layer, got {layer.name!r} ({type(layer)}).")
    parts = {"weight": (layer.kernel, axes)}
    if layer.bias is not None:
        parts["bias"] = (layer.bias, (0,))
    return parts


def _read(
    tensors: Tensors, key: str, variable: keras.Variable, axes: tuple[int, ...], *, layer: str, source: str
) -> np.ndarray:
    """Returns one tensor as the variable wants it."""
    shape = tuple(variable.shape[axes.index(axis)] for axis in range(len(axes)))
    if key not in tensors or tensors[key].shape != shape:
        got = f"shape {tensors[key].shape}" if key in tensors else f"none among {', '.join(list(tensors)[:_SHOWN])}, .."
        raise WeightsError(
            f"Expected {source} to hold {key!r} of shape {shape} for the layer {layer!r}, got {got}. Give the weights "
            "of the network that the model is, or build the model with their size and number of classes."
        )
    value = tensors[key].transpose(axes)
    if value.dtype.kind != "f" or not np.all(np.isfinite(value)):
        raise WeightsError(
            f"Expected {key!r} in {source} to hold finite floats, got {value.dtype} with others among them. It is "
            "damaged or from a training that failed: take another file."
        )
    return value.astype(np.float32)
