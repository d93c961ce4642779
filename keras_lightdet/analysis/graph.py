"""A functional model as the list of its layers' calls, with the shapes they have at one input size."""

from collections.abc import Sequence
from dataclasses import dataclass

import keras

from keras_lightdet.base_model import BaseModel

# Multiplications between activations, and layers of layers: nothing here counts them or sees through them.
_OPAQUE_OPERATIONS = ("Dot", "Einsum", "Matmul", "Tensordot")
# Layers whose weights may look like matrices and yet meet each value alone.
_ELEMENT_WISE = (keras.layers.Embedding, keras.layers.LayerNormalization, keras.layers.PReLU)


@dataclass(frozen=True)
class Call:
    """One use of a layer or operation.

    Attributes:
        name: Its name, with the names of the models it is nested in before it; a second use ends in ":2".
        operation: The layer or operation.
        inputs: What it is given, batch size 1.
        outputs: What it returns.
        first: Whether it is the operation's first use.
    """

    name: str
    operation: keras.Operation
    inputs: tuple[keras.KerasTensor, ...]
    outputs: tuple[keras.KerasTensor, ...]
    first: bool

    @property
    def kind(self) -> str:
        """The class of the operation."""
        return type(self.operation).__name__


@dataclass(frozen=True)
class Graph:
    """The calls of a model in the order Keras makes them."""

    calls: tuple[Call, ...]
    inputs: tuple[keras.KerasTensor, ...]
    outputs: tuple[keras.KerasTensor, ...]


def trace(model: keras.Model, input_shape: Sequence[int] | None = None, *, free_side: int | None = None) -> Graph:
    """Lists the calls of a functional model, those of nested models included, without computing anything.

    Args:
        model: A functional or sequential model, or a detector or segmenter (its `networks`, one after the other).
        input_shape: `(height, width, channels)`, without the batch; None takes the model's own.
        free_side: What stands for a side that is still unknown; None makes that an error.

    Raises:
        ValueError: If a size is unknown, or the model or one nested in it is not functional.
    """
    if isinstance(model, BaseModel):
        size = tuple(input_shape[:2]) if input_shape else model.input_size
        graphs = [_trace_one(network, shapes, None) for network, shapes in model.networks(size)]
        calls = tuple(call for graph in graphs for call in graph.calls)
        return Graph(calls, graphs[0].inputs, graphs[-1].outputs)
    return _trace_one(model, None if input_shape is None else [input_shape], free_side)


def _trace_one(model: keras.Model, input_shapes: Sequence[Sequence[int]] | None, free_side: int | None) -> Graph:
    network = _as_functional(model)
    shapes = [x.shape[1:] for x in network.inputs]
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
    return Graph(tuple(calls), tuple(inputs), tuple(keras.tree.flatten(outputs)))


def is_opaque(operation: keras.Operation) -> bool:
    """Tells whether an operation mixes values in a way that only its author knows.

    A layer does with matrices for weights, unless it is of a kind that the caller has looked for before.
    """
    if type(operation).__name__ in _OPAQUE_OPERATIONS:
        return True
    if not isinstance(operation, keras.Layer) or isinstance(operation, _ELEMENT_WISE):
        return False
    return any(sum(side > 1 for side in weight.shape) > 1 for weight in operation.weights)


def _run(network: keras.Model, inputs: Sequence, prefix: str, calls: list[Call], uses: dict[int, int]):
    def record(operation: keras.Operation):
        def call(*args, **kwargs):
            if isinstance(operation, keras.Model):
                nested = _as_functional(operation)
                return _run(nested, keras.tree.flatten(args), f"{prefix}{operation.name}/", calls, uses)
            uses[id(operation)] = uses.get(id(operation), 0) + 1
            outputs = operation.compute_output_spec(*args, **kwargs)
            name = f"{prefix}{operation.name}"
            calls.append(
                Call(
                    name if uses[id(operation)] == 1 else f"{name}:{uses[id(operation)]}",
                    operation,
                    _tensors((args, kwargs)),
                    _tensors(outputs),
                    uses[id(operation)] == 1,
                )
            )
            return outputs

        return call

    # Keras has no public way to walk the uses of shared layers; this is how it infers shapes itself.
    return network._run_through_graph(inputs, operation_fn=record)


def _tensors(structure) -> tuple[keras.KerasTensor, ...]:
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
