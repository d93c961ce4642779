"""TFLite Metadata for detectors and segmenters as MediaPipe requires them, with the labels packed into the file.

The tables are written by slot number (TFLite metadata_schema.fbs, identifier M001) with the flatbuffers package alone:
the writers of MediaPipe and tflite-support do not import together with current TensorFlow.
"""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from keras_lightdet.deploy import flatbuffer
from keras_lightdet.deploy.postprocess import OUTPUTS
from keras_lightdet.errors import ExportError
from keras_lightdet.files import StrPath

LABELS_FILE = "labels.txt"
# MediaPipe requires exactly these names; with others it crashes without a message.
OUTPUT_NAMES = dict(zip(OUTPUTS, ("location", "category", "score", "number of detections"), strict=True))

_ENTRY = "TFLITE_METADATA"
_IDENTIFIER = b"M001"
_MIN_PARSER_VERSION = "1.0.0"  # MediaPipe rejects versions above 1.5.0
_MAX_LABELS_BYTES = 2**20
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the same model gives the same bytes

# Values of the schema's unions and enumerations.
_FEATURE, _IMAGE, _BOUNDING_BOX = 1, 2, 3  # ContentProperties
_NORMALIZATION = 1  # ProcessUnitOptions
_RGB = 1  # ColorSpaceType
_BOUNDARIES = 1  # BoundingBoxType
_AXIS_LABELS, _VALUE_LABELS = 2, 3  # AssociatedFileType: the index on the last axis, or the value, is a line number
# A custom table of MediaPipe's ImageSegmenter: the activation that it applies to the output.
_SEGMENTER_OPTIONS, _OPTIONS_IDENTIFIER = "SEGMENTER_METADATA", b"V001"
_NO_ACTIVATION, _SOFTMAX = 0, 2


FlatbufferBuilder: TypeAlias = Any  # flatbuffers.Builder, which has no types


@dataclass(frozen=True)
class Table:
    """A flatbuffer table: slot -> text, vector, list of tables, table, or (in `enums`) one byte."""

    fields: dict[int, "Value"] = field(default_factory=dict)
    enums: dict[int, int] = field(default_factory=dict)


Value: TypeAlias = str | np.ndarray | list[Table] | Table


def add_metadata(content: bytes, class_names: Sequence[str], *, name: str) -> bytes:
    """Adds metadata of a detector's four outputs and packs its labels.

    Args:
        content: A flatbuffer whose signature has the outputs `OUTPUTS`.
        class_names: Names in label order.
        name: Name of the model.

    Returns:
        The flatbuffer with metadata, followed by a zip archive with `labels.txt`.

    Raises:
        ExportError: A class name is not one line of text, or the model does not have the four outputs.
    """
    model = flatbuffer.unpack(content)
    _, outputs = flatbuffer.signature_tensors(model)
    if set(outputs) != set(OUTPUTS):
        raise ExportError(f"Expected the outputs {OUTPUTS}, got {tuple(outputs)}. Export with post-processing.")
    names = {index: output for output, index in outputs.items()}
    order = [names[int(index)] for index in model.subgraphs[0].outputs]  # MediaPipe reads entries by position
    set_metadata(model, name, [_output_table(output) for output in order])
    return pack_labels(flatbuffer.pack(model), class_names)


def add_segmenter_metadata(content: bytes, class_names: Sequence[str], *, name: str, apply_softmax: bool) -> bytes:
    """Adds metadata of a segmenter's output, `[1, H, W, K]`, and packs its labels.

    Args:
        content: A flatbuffer of one output.
        class_names: Names in label order.
        name: Name of the model.
        apply_softmax: Whether the output is logits, to which the client applies softmax.

    Returns:
        The flatbuffer with metadata, followed by a zip archive with `labels.txt`.

    Raises:
        ExportError: A class name is not one line of text.
    """
    model = flatbuffer.unpack(content)
    masks = Table({0: "masks", 3: _content(_FEATURE, Table()), 6: [Table({0: LABELS_FILE}, {2: _AXIS_LABELS})]})
    activation = Table(enums={0: _SOFTMAX if apply_softmax else _NO_ACTIVATION})
    options = np.frombuffer(_encode(activation, _OPTIONS_IDENTIFIER), np.uint8)
    set_metadata(model, name, [masks], [Table({0: _SEGMENTER_OPTIONS, 1: options})])
    return pack_labels(flatbuffer.pack(model), class_names)


def set_metadata(model: flatbuffer.Model, name: str, outputs: Sequence[Table], custom: Sequence[Table] = ()) -> None:
    """Sets the metadata of a network that takes raw pixels; `outputs` are in the order of the model's outputs."""
    data = _encode(_model_table(name, outputs, custom), _IDENTIFIER)
    schema = flatbuffer.load_schema()
    model.buffers.append(schema.BufferT(data=np.frombuffer(data, np.uint8)))
    entry = schema.MetadataT(name=_ENTRY, buffer=len(model.buffers) - 1)
    others = [other for other in model.metadata or () if other.name not in (_ENTRY, _ENTRY.encode())]
    model.metadata = [*others, entry]


def feature_table(name: str, labels: str | None = None) -> Table:
    """Returns the metadata of an output of numbers; `labels` is the packed file whose lines the numbers index."""
    fields: dict[int, Value] = {0: name, 3: _content(_FEATURE, Table())}
    if labels is not None:
        fields[6] = [Table({0: labels}, {2: _VALUE_LABELS})]
    return Table(fields)


def pack_labels(content: bytes, class_names: Sequence[str]) -> bytes:
    """Appends a zip with `labels.txt` to a flatbuffer.

    Raises:
        ExportError: A class name is not one line of text.
    """
    unusable = [label for label in class_names if label.splitlines() != [label] or not label.strip()]
    if unusable:
        raise ExportError(f"Expected class names to be one line of text each, got {unusable!r}. Rename them.")
    file = io.BytesIO(content)
    file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(zipfile.ZipInfo(LABELS_FILE, _ZIP_DATE), "\n".join(class_names))
    return file.getvalue()


def read_labels(path: StrPath) -> tuple[str, ...]:
    """Returns the class names packed in a .tflite file, in label order.

    Raises:
        ExportError: The file is not a .tflite, or has no labels.
    """
    content = flatbuffer.read_content(path)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive, archive.open(LABELS_FILE) as file:
            text = file.read(_MAX_LABELS_BYTES + 1)
    except (zipfile.BadZipFile, KeyError, EOFError, RuntimeError, ValueError, OSError) as error:
        raise ExportError(
            f"Expected {str(path)!r} to hold {LABELS_FILE}, got {error}. "
            "Export it again with `lightdet export`, which packs the labels."
        ) from None
    if len(text) > _MAX_LABELS_BYTES:
        raise ExportError(f"Expected the labels in {str(path)!r} to be under 1 MB, got more. Export it again.")
    return tuple(text.decode("utf-8", "replace").splitlines())


def _model_table(name: str, outputs: Sequence[Table], custom: Sequence[Table]) -> Table:
    image = Table(
        {
            0: "image",
            3: _content(_IMAGE, Table(enums={0: _RGB})),
            4: [Table({1: Table({0: np.array([0], np.float32), 1: np.array([1], np.float32)})}, {0: _NORMALIZATION})],
            5: Table({0: np.array([255], np.float32), 1: np.array([0], np.float32)}),
        }
    )
    graph = Table({2: [image], 3: list(outputs), **({9: list(custom)} if custom else {})})
    return Table({0: name, 3: [graph], 7: _MIN_PARSER_VERSION})


def _output_table(output: str) -> Table:
    if output == "boxes":
        # Left, top, right and bottom are in columns 1, 0, 3 and 2.
        corners = Table({0: np.array([1, 0, 3, 2], np.uint32)}, {1: _BOUNDARIES})
        return Table({0: OUTPUT_NAMES[output], 3: _content(_BOUNDING_BOX, corners)})
    return feature_table(OUTPUT_NAMES[output], LABELS_FILE if output == "labels" else None)


def _content(kind: int, properties: Table) -> Table:
    return Table({1: properties}, {0: kind})


def _encode(table: Table, identifier: bytes) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(_write(builder, table), file_identifier=identifier)
    return bytes(builder.Output())


def _write(builder: FlatbufferBuilder, value: Value) -> int:
    """Writes a value after its children and returns its offset."""
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, np.ndarray):
        return builder.CreateNumpyVector(value)
    if isinstance(value, list):
        items = [_write(builder, item) for item in value]
        builder.StartVector(4, len(items), 4)
        for offset in reversed(items):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()
    offsets = {slot: _write(builder, child) for slot, child in value.fields.items()}
    builder.StartObject(1 + max([*value.fields, *value.enums], default=-1))
    for slot, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    for slot, number in value.enums.items():
        builder.PrependUint8Slot(slot, number, 0)
    return builder.EndObject()
