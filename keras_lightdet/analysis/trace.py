"""The trace of a functional model: the calls of its layers with their shapes at one input size."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_lightdet.base_model import BaseModel

# Products of activations, and layers of layers: their multiply-adds and receptive fields are not known.
_OPAQUE_OPERATIONS = ("Dot", "Einsum", "Matmul", "Tensordot")
# Layers whose weights may have the shape of a matrix although they are element-wise.
_ELEMENT_WISE = (keras.layers.Embedding, keras.layers.LayerNormalization, keras.layers.PReLU)


@dataclass(frozen=True)
class Call:
    """One call of a layer or operation."""

    name: str  # after the names of the models that contain it; a second call ends in ":2"
    operation: keras.Operation
    inputs: tuple[keras.KerasTensor, ...]  # of batch size 1
    outputs: tuple[keras.KerasTensor, ...]
    first: bool  # whether it is the first call of the operation

    @property
    def kind(self) -> str:
        """Name of the operation's class."""
        return type(self.operation).__name__


@dataclass(frozen=True)
class Trace:
    """The calls of a model in the order of execution."""

    calls: tuple[Call, ...]
    inputs: tuple[keras.KerasTensor, ...]
    outputs: tuple[keras.KerasTensor, ...]


def trace(model: keras.Model, input_shape: Sequence[int] | None = None, *, free_side: int | None = None) -> Trace:
    """Traces a functional model and the models nested in it, without computing any values.

    Args:
        model: A functional or sequential model, or a detector or segmenter (its `networks` in their order).
        input_shape: `(height, width, channels)` without the batch; `None` for the model's own.
        free_side: Replaces an unknown height or width; `None` makes it an error.

    Raises:
        ValueError: If a size is unknown, or the model or one nested in it is not functional.
    """
    if isinstance(model, BaseModel):
        size = (input_shape[0], input_shape[1]) if input_shape else model.input_size
        traces = [_trace_network(network, shapes, None) for network, shapes in model.networks(size)]
        calls = tuple(call for traced in traces for call in traced.calls)
        return Trace(calls, traces[0].inputs, traces[-1].outputs)
    return _trace_network(model, None if input_shape is None else [input_shape], free_side)


def is_opaque(operation: keras.Operation) -> bool:
    """Returns whether an operation combines values in an unknown way.

    Layers with a matrix among their weights do, except the kinds that the caller handles itself.
    """
    if type(operation).__name__ in _OPAQUE_OPERATIONS:
        return True
    if not isinstance(operation, keras.Layer) or isinstance(operation, _ELEMENT_WISE):
        return False
    return any(sum(side > 1 for side in weight.shape) > 1 for weight in operation.weights)


def _trace_network(model: keras.Model, input_shapes: Sequence[Sequence[int]] | None, free_side: int | None) -> Trace:
    network = _as_functional(model)
    shapes = [tuple(x.shape[1:]) for x in network.inputs]
    if input_shapes is not None:
        if len(shapes) != len(input_shapes):
            raise ValueError(
                f"Expected a model of one input for input_shape={input_shapes[0]!r}, got {len(shapes)} inputs. "
                "Build it with the sizes it has and leave input_shape out."
            )
        shapes = [tuple(shape) for shape in input_shapes]
    shapes = [tuple(free_side if side is None else side for side in shape) for shape in shapes]
    if any(side is None for shape in shapes for side in shape):
        raise ValueError(f"Expected known input sizes, got {shapes}. Give input_shape=(height, width, 3).")
    inputs = [keras.KerasTensor((1, *shape), x.dtype) for shape, x in zip(shapes, network.inputs, strict=True)]
    calls: list[Call] = []
    structured = keras.tree.pack_sequence_as(network.input, inputs)
    outputs = _run(network, structured, "", calls, {})
    return Trace(tuple(calls), tuple(inputs), _tensors(outputs))


def _run(network: keras.Model, inputs: Any, prefix: str, calls: list[Call], counts: dict[int, int]) -> Any:
    """Returns the outputs of a network; adds its calls to `calls`, and their numbers by operation to `counts`."""

    def record(operation: keras.Operation) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if isinstance(operation, keras.Model):
                nested = _as_functional(operation)
                return _run(nested, keras.tree.flatten(args), f"{prefix}{operation.name}/", calls, counts)
            count = counts[id(operation)] = counts.get(id(operation), 0) + 1
            outputs = operation.compute_output_spec(*args, **kwargs)
            name = f"{prefix}{operation.name}" if count == 1 else f"{prefix}{operation.name}:{count}"
            calls.append(Call(name, operation, _tensors((args, kwargs)), _tensors(outputs), count == 1))
            return outputs

        return call

    # Keras has no public way to walk the calls of shared layers; it infers shapes itself by this method.
    return network._run_through_graph(inputs, operation_fn=record)


def _tensors(structure: Any) -> tuple[keras.KerasTensor, ...]:
    return tuple(x for x in keras.tree.flatten(structure) if isinstance(x, keras.KerasTensor))


def _as_functional(model: keras.Model) -> keras.Model:
    if isinstance(model, keras.Sequential) and model.built:
        model = keras.Model(model.inputs, model.outputs, name=model.name)
    if not isinstance(model, keras.Function):
        raise ValueError(
            f"Expected a functional or sequential model that is built, got {model.name!r} "
            f"({type(model).__name__}). Give the functional model inside it."
        )
    return model
