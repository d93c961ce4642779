"""Joins two .tflite flatbuffers into one: the outputs of the first become the inputs of the second.

The network and the box decoding are converted apart, so that the decoding and the suppression of an int8 file
stay float32 by construction: in one graph the quantizer would take them too, and boxes lose their places in 8
bits.
"""

from collections.abc import Sequence

from keras_lightdet.deploy import flatbuffer
from keras_lightdet.errors import ExportError

_MIN_RUNTIME_VERSION = "min_runtime_version"


def splice(first: bytes, second: bytes, *, keep: Sequence[str] = ()) -> bytes:
    """Joins two flatbuffers by their signatures.

    Args:
        first: Its signature's outputs must be the inputs of `second`, by name, shape and type.
        second: Its signature's outputs become those of the whole.
        keep: Outputs of `first` that the whole gives as well, after those of `second`.

    Raises:
        ExportError: The parts do not fit each other, or have more than one subgraph (control flow).
    """
    head, tail = flatbuffer.unpack(first), flatbuffer.unpack(second)
    if len(head.subgraphs) != 1 or len(tail.subgraphs) != 1:
        raise ExportError(
            f"Expected parts of one subgraph each, got {len(head.subgraphs)} and {len(tail.subgraphs)}. "
            "Do write loops and branches out: tf.while_loop and tf.cond make subgraphs of their own."
        )
    inputs, joints = flatbuffer.signature_tensors(head)
    tail_inputs, tail_outputs = flatbuffer.signature_tensors(tail)
    _require_fit(head, tail, joints, tail_inputs)

    replaced = {tail_inputs[name]: joints[name] for name in tail_inputs}
    moved = _append_tensors(head, tail, replaced)
    _append_operators(head, tail, moved)
    _merge_min_runtime_version(head, tail)
    outputs = {name: moved[index] for name, index in tail_outputs.items()}
    flatbuffer.set_signature(head, inputs, outputs | {name: joints[name] for name in keep})
    return flatbuffer.pack(head)


def _require_fit(head, tail, joints: dict[str, int], tail_inputs: dict[str, int]) -> None:
    missing = sorted(set(tail_inputs) - set(joints))
    if missing or not tail_inputs:
        raise ExportError(
            f"Expected the first part to give {sorted(tail_inputs)}, got {sorted(joints)}. Do name them alike."
        )
    for name, index in tail_inputs.items():
        given, wanted = head.subgraphs[0].tensors[joints[name]], tail.subgraphs[0].tensors[index]
        if (given.type, list(given.shape)) != (wanted.type, list(wanted.shape)):
            raise ExportError(
                f"Expected {name!r} to be of type {wanted.type} and shape {list(wanted.shape)}, "
                f"got type {given.type} and shape {list(given.shape)}. Do convert both parts from one model."
            )


def _append_tensors(head, tail, replaced: dict[int, int]) -> dict[int, int]:
    """Moves the tail's tensors and buffers over; returns old index -> new index."""
    graph, moved = head.subgraphs[0], {-1: -1, **replaced}  # -1 stands for an absent optional input
    buffers = {0: 0}  # buffer 0 is the empty one in every file
    for index, tensor in enumerate(tail.subgraphs[0].tensors):
        if index in replaced:
            continue
        if tensor.buffer not in buffers:
            buffers[tensor.buffer] = len(head.buffers)
            head.buffers.append(tail.buffers[tensor.buffer])
        tensor.buffer = buffers[tensor.buffer]
        moved[index] = len(graph.tensors)
        graph.tensors.append(tensor)
    return moved


def _append_operators(head, tail, moved: dict[int, int]) -> None:
    """Moves the tail's operators over; codes that both parts use are shared, at the higher version."""
    codes = {flatbuffer.op_name(code): index for index, code in enumerate(head.operatorCodes)}
    for operator in tail.subgraphs[0].operators:
        code = tail.operatorCodes[operator.opcodeIndex]
        name = flatbuffer.op_name(code)
        if name not in codes:
            codes[name] = len(head.operatorCodes)
            head.operatorCodes.append(code)
        shared = head.operatorCodes[codes[name]]
        shared.version = max(shared.version, code.version)
        operator.opcodeIndex = codes[name]
        for field in ("inputs", "outputs", "intermediates"):
            indices = getattr(operator, field)
            setattr(operator, field, [moved[int(i)] for i in (() if indices is None else indices)])
        head.subgraphs[0].operators.append(operator)


def _merge_min_runtime_version(head, tail) -> None:
    """Lets the whole ask for the newer of the two runtimes."""
    found = [_min_runtime_version(model) for model in (head, tail)]
    if all(buffer is not None for buffer in found):
        newest = max((bytes(buffer.data) for buffer in found), key=_version_key)
        found[0].data = list(newest)


def _min_runtime_version(model):
    for entry in model.metadata or ():
        if entry.name in (_MIN_RUNTIME_VERSION, _MIN_RUNTIME_VERSION.encode()):
            return model.buffers[entry.buffer]
    return None


def _version_key(data: bytes) -> list[int]:
    parts = data.rstrip(b"\0").decode().split(".")
    return [int(part or 0) for part in parts]  # a part without ops has an empty version
