"""Reading and writing .tflite flatbuffers as objects, and what stands in them."""

import importlib
from pathlib import Path
from types import ModuleType

from keras_lightdet.errors import ExportError

FILE_IDENTIFIER = b"TFL3"
SIGNATURE = "serving_default"

_INSTALL = 'Do `pip install "keras-lightdet[export]"`.'


def load_schema() -> ModuleType:
    """Returns the generated Python classes of the .tflite schema.

    Raises:
        ExportError: Neither ai-edge-litert nor TensorFlow brings them.
    """
    for name in ("ai_edge_litert.schema_py_generated", "tensorflow.lite.python.schema_py_generated"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ExportError(f"Expected ai-edge-litert to be installed, found neither it nor TensorFlow Lite. {_INSTALL}")


def read_content(path: str | Path) -> bytes:
    """Returns the bytes of a .tflite file.

    Raises:
        ExportError: The file is absent, or is not a .tflite.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ExportError(f"Expected a .tflite file at {str(path)!r}, got {error}. Do check the path.") from None
    if content[4:8] != FILE_IDENTIFIER:
        raise ExportError(
            f"Expected {str(path)!r} to be a .tflite file (bytes 4..8 {FILE_IDENTIFIER!r}), "
            f"got {content[4:8]!r}. Do export the model again with export/export_tflite.py."
        )
    return content


def unpack(content: bytes, name: str = "the converted model"):
    """Returns the flatbuffer as a `ModelT` object of the schema.

    Raises:
        ExportError: The flatbuffer is damaged.
    """
    schema = load_schema()
    try:
        model = schema.ModelT.InitFromPackedBuf(bytearray(content), 0)
    except Exception as error:  # a damaged flatbuffer fails in as many ways as it has fields
        raise ExportError(f"Expected {name} to be a whole .tflite, got {error!r}. Do export it again.") from None
    if not model.subgraphs or not model.buffers:
        raise ExportError(f"Expected {name} to hold a graph, got an empty flatbuffer. Do export it again.")
    return model


def pack(model) -> bytes:
    """Returns the bytes of a `ModelT`."""
    import flatbuffers

    weights = sum(len(buffer.data) for buffer in model.buffers if buffer.data is not None)
    builder = flatbuffers.Builder(weights + 2**16)
    builder.Finish(model.Pack(builder), file_identifier=FILE_IDENTIFIER)
    return bytes(builder.Output())


def op_name(opcode) -> str:
    """Returns an operator code's name: that of the built-in, or the custom code itself."""
    # Old readers know only the first, which stops at 127 (PLACEHOLDER_FOR_GREATER_OP_CODES).
    code = max(opcode.builtinCode, opcode.deprecatedBuiltinCode)
    if code == load_schema().BuiltinOperator.CUSTOM:
        custom = opcode.customCode
        return custom.decode() if isinstance(custom, bytes) else custom
    return _builtin_names()[code]


def _builtin_names() -> dict[int, str]:
    operators = vars(load_schema().BuiltinOperator)
    return {code: name for name, code in operators.items() if isinstance(code, int)}


def signature_tensors(model, key: str = SIGNATURE) -> tuple[dict[str, int], dict[str, int]]:
    """Returns the signature's inputs and outputs: name -> index of the tensor in the first subgraph."""
    for signature in model.signatureDefs or ():
        if _text(signature.signatureKey) == key:
            return tuple(
                {_text(entry.name): int(entry.tensorIndex) for entry in entries or ()}
                for entries in (signature.inputs, signature.outputs)
            )
    return {}, {}


def set_signature(model, inputs: dict[str, int], outputs: dict[str, int], key: str = SIGNATURE) -> None:
    """Gives the first subgraph this one signature, and its inputs and outputs this order."""
    schema = load_schema()

    def entries(tensors: dict[str, int]) -> list:
        return [schema.TensorMapT(name=name, tensorIndex=index) for name, index in tensors.items()]

    signature = schema.SignatureDefT(
        inputs=entries(inputs), outputs=entries(outputs), signatureKey=key, subgraphIndex=0
    )
    model.signatureDefs = [signature]
    model.subgraphs[0].inputs = list(inputs.values())
    model.subgraphs[0].outputs = list(outputs.values())


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
