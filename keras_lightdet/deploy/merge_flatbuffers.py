"""Merges two .tflite flatbuffers into one: outputs of the first become the inputs of the second.

The network and the box decoding are converted separately and then merged, so that decoding and NMS stay float32 in an
int8 file. In one graph the quantizer would convert them too, and 8 bits are too coarse for box coordinates.
"""

from collections.abc import Mapping, Sequence

from keras_lightdet.deploy import flatbuffer
from keras_lightdet.deploy.flatbuffer import Buffer, Model, TensorIndices
from keras_lightdet.errors import ExportError

_MIN_RUNTIME_VERSION = "min_runtime_version"
_ABSENT = -1  # index of an optional input that an operator does not have


def merge_flatbuffers(first: bytes, second: bytes, *, keep: Sequence[str] = ()) -> bytes:
    """Merges two flatbuffers by their signatures.

    The boundary tensors are the outputs of `first` that `second` takes: they must agree in name, shape and type.

    Args:
        first: Flatbuffer that computes the boundary tensors.
        second: Flatbuffer whose inputs are boundary tensors; its outputs become those of the merged model.
        keep: Outputs of `first` that the merged model also gives, after those of `second`.

    Raises:
        ExportError: The boundary tensors do not agree, or a flatbuffer has several subgraphs (control flow).
    """
    merged, appended = flatbuffer.unpack(first), flatbuffer.unpack(second)
    if len(merged.subgraphs) != 1 or len(appended.subgraphs) != 1:
        raise ExportError(
            f"Expected flatbuffers of one subgraph each, got {len(merged.subgraphs)} and {len(appended.subgraphs)}. "
            "Unroll loops and replace branches: tf.while_loop and tf.cond make subgraphs of their own."
        )
    inputs, boundary = flatbuffer.signature_tensors(merged)
    appended_inputs, appended_outputs = flatbuffer.signature_tensors(appended)
    _check_boundary(merged, appended, boundary, appended_inputs)

    replaced = {appended_inputs[name]: boundary[name] for name in appended_inputs}
    new_indices = _append_tensors(merged, appended, replaced)
    _append_operators(merged, appended, new_indices)
    _merge_min_runtime_version(merged, appended)
    outputs = {name: new_indices[index] for name, index in appended_outputs.items()}
    flatbuffer.set_signature(merged, inputs, outputs | {name: boundary[name] for name in keep})
    return flatbuffer.pack(merged)


def _check_boundary(merged: Model, appended: Model, boundary: TensorIndices, appended_inputs: TensorIndices) -> None:
    """Raises an `ExportError` if an input of `appended` is not a boundary tensor of the same type and shape."""
    missing = sorted(set(appended_inputs) - set(boundary))
    if missing or not appended_inputs:
        raise ExportError(
            f"Expected the first flatbuffer to give {sorted(appended_inputs)}, got {sorted(boundary)}. "
            "Use the same names in both."
        )
    for name, index in appended_inputs.items():
        source, target = merged.subgraphs[0].tensors[boundary[name]], appended.subgraphs[0].tensors[index]
        if (source.type, list(source.shape)) != (target.type, list(target.shape)):
            raise ExportError(
                f"Expected {name!r} to be of type {target.type} and shape {list(target.shape)}, "
                f"got type {source.type} and shape {list(source.shape)}. Convert both stages of one model."
            )


def _append_tensors(merged: Model, appended: Model, replaced: Mapping[int, int]) -> dict[int, int]:
    """Copies the tensors and buffers of `appended` to `merged`; returns old tensor index -> new tensor index."""
    subgraph, new_indices = merged.subgraphs[0], {_ABSENT: _ABSENT, **replaced}
    new_buffers = {0: 0}  # buffer 0 is the empty one in every file
    for index, tensor in enumerate(appended.subgraphs[0].tensors):
        if index in replaced:
            continue
        if tensor.buffer not in new_buffers:
            new_buffers[tensor.buffer] = len(merged.buffers)
            merged.buffers.append(appended.buffers[tensor.buffer])
        tensor.buffer = new_buffers[tensor.buffer]
        new_indices[index] = len(subgraph.tensors)
        subgraph.tensors.append(tensor)
    return new_indices


def _append_operators(merged: Model, appended: Model, new_indices: Mapping[int, int]) -> None:
    """Copies the operators of `appended` to `merged`; operator codes of both are shared, at the higher version."""
    code_indices = {flatbuffer.op_name(code): index for index, code in enumerate(merged.operatorCodes)}
    for operator in appended.subgraphs[0].operators:
        code = appended.operatorCodes[operator.opcodeIndex]
        name = flatbuffer.op_name(code)
        if name not in code_indices:
            code_indices[name] = len(merged.operatorCodes)
            merged.operatorCodes.append(code)
        shared = merged.operatorCodes[code_indices[name]]
        shared.version = max(shared.version, code.version)
        operator.opcodeIndex = code_indices[name]
        for field in ("inputs", "outputs", "intermediates"):
            indices = getattr(operator, field)
            setattr(operator, field, [new_indices[int(i)] for i in (() if indices is None else indices)])
        merged.subgraphs[0].operators.append(operator)


def _merge_min_runtime_version(merged: Model, appended: Model) -> None:
    """Sets the minimum runtime version of `merged` to the newer one of both."""
    buffer, other = _min_runtime_version(merged), _min_runtime_version(appended)
    if buffer is not None and other is not None:
        newer = max(bytes(buffer.data), bytes(other.data), key=_version_key)
        buffer.data = list(newer)


def _min_runtime_version(model: Model) -> Buffer | None:
    for entry in model.metadata or ():
        if entry.name in (_MIN_RUNTIME_VERSION, _MIN_RUNTIME_VERSION.encode()):
            return model.buffers[entry.buffer]
    return None


def _version_key(data: bytes) -> list[int]:
    return [int(number or 0) for number in data.rstrip(b"\0").decode().split(".")]  # empty for a graph without ops
