"""Reads and writes .tflite flatbuffers as objects of the generated schema."""

import importlib
from collections.abc import Iterable
from types import ModuleType
from typing import Any, TypeAlias

from keras_lightdet.errors import ExportError
from keras_lightdet.files import StrPath, expand_user

FILE_IDENTIFIER = b"TFL3"
SIGNATURE = "serving_default"

# Objects of the generated schema classes, which are loaded at run time and have no types.
Model: TypeAlias = Any  # ModelT
OperatorCode: TypeAlias = Any  # OperatorCodeT
Buffer: TypeAlias = Any  # BufferT
TensorIndices: TypeAlias = dict[str, int]  # name in the signature -> index of the tensor in the first subgraph

INSTALL = 'Run `pip install "keras-lightdet[export]"`.'


def load_schema() -> ModuleType:
    """Returns the generated Python classes of the .tflite schema.

    Raises:
        ExportError: Neither ai-edge-litert nor TensorFlow Lite is installed.
    """
    for name in ("ai_edge_litert.schema_py_generated", "tensorflow.lite.python.schema_py_generated"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ExportError(f"Expected ai-edge-litert to be installed, found neither it nor TensorFlow Lite. {INSTALL}")


def read_content(path: StrPath) -> bytes:
    """Returns the bytes of a .tflite file.

    Raises:
        ExportError: The file is absent, or is not a .tflite.
    """
    try:
        content = expand_user(path).read_bytes()
    except OSError as error:
        raise ExportError(f"Expected a .tflite file at {str(path)!r}, got {error}. Check the path.") from None
    if content[4:8] != FILE_IDENTIFIER:
        raise ExportError(
            f"Expected {str(path)!r} to be a .tflite file (bytes 4..8 {FILE_IDENTIFIER!r}), "
            f"got {content[4:8]!r}. Export the model again with `lightdet export`."
        )
    return content


def unpack(content: bytes, name: str = "the converted model") -> Model:
    """Returns the flatbuffer as a `ModelT` object of the schema.

    Args:
        content: The flatbuffer.
        name: Name of the model in error messages.

    Raises:
        ExportError: The flatbuffer is damaged.
    """
    schema = load_schema()
    try:
        model = schema.ModelT.InitFromPackedBuf(bytearray(content), 0)
    except Exception as error:  # a damaged flatbuffer fails in as many ways as it has fields
        raise ExportError(f"Expected {name} to be a complete .tflite, got {error!r}. Export it again.") from None
    if not model.subgraphs or not model.buffers:
        raise ExportError(f"Expected {name} to hold a graph, got an empty flatbuffer. Export it again.")
    return model


def pack(model: Model) -> bytes:
    """Returns the bytes of a `ModelT`."""
    import flatbuffers

    weights = sum(len(buffer.data) for buffer in model.buffers if buffer.data is not None)
    builder = flatbuffers.Builder(weights + 2**16)
    builder.Finish(model.Pack(builder), file_identifier=FILE_IDENTIFIER)
    return bytes(builder.Output())


def op_name(opcode: OperatorCode) -> str:
    """Returns the name of an operator code: the built-in's name, or the custom code itself."""
    # Old readers know only `deprecatedBuiltinCode`, which stops at 127 (PLACEHOLDER_FOR_GREATER_OP_CODES).
    code = max(opcode.builtinCode, opcode.deprecatedBuiltinCode)
    operators = load_schema().BuiltinOperator
    if code == operators.CUSTOM:
        custom = opcode.customCode
        return custom.decode() if isinstance(custom, bytes) else custom
    return {value: name for name, value in vars(operators).items() if isinstance(value, int)}[code]


def signature_tensors(model: Model) -> tuple[TensorIndices, TensorIndices]:
    """Returns the inputs and outputs of the signature `SIGNATURE`; both are empty if the model does not have it."""
    for signature in model.signatureDefs or ():
        if _text(signature.signatureKey) == SIGNATURE:
            return _tensor_indices(signature.inputs), _tensor_indices(signature.outputs)
    return {}, {}


def set_signature(model: Model, inputs: TensorIndices, outputs: TensorIndices) -> None:
    """Makes `SIGNATURE` the only signature of the first subgraph, whose inputs and outputs get the same order."""
    model.signatureDefs = [
        load_schema().SignatureDefT(
            inputs=_tensor_maps(inputs), outputs=_tensor_maps(outputs), signatureKey=SIGNATURE, subgraphIndex=0
        )
    ]
    model.subgraphs[0].inputs = list(inputs.values())
    model.subgraphs[0].outputs = list(outputs.values())


def _tensor_indices(entries: Iterable[Any] | None) -> TensorIndices:
    return {_text(entry.name): int(entry.tensorIndex) for entry in entries or ()}


def _tensor_maps(indices: TensorIndices) -> list[Any]:
    table = load_schema().TensorMapT
    return [table(name=name, tensorIndex=index) for name, index in indices.items()]


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
