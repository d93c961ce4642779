"""TFLite Metadata for detectors and segmenters, in the form MediaPipe demands, labels packed inside.

The tables are written by slot number (TFLite metadata_schema.fbs, identifier M001) with the flatbuffers
package alone: the writers that MediaPipe and tflite-support ship no longer import beside current TensorFlow.
"""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from keras_lightdet.deploy import flatbuffer
from keras_lightdet.deploy.postprocess import OUTPUTS
from keras_lightdet.errors import ExportError

LABELS_FILE = "labels.txt"
# What MediaPipe calls the outputs; without these very names it dies without a message.
OUTPUT_NAMES = dict(zip(OUTPUTS, ("location", "category", "score", "number of detections"), strict=True))

_ENTRY = "TFLITE_METADATA"
_IDENTIFIER = b"M001"
_MIN_PARSER_VERSION = "1.0.0"  # above 1.5.0 MediaPipe refuses
_MAX_LABELS_BYTES = 2**20
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the same model gives the same bytes

# Numbers of the schema's unions and enumerations.
_FEATURE, _IMAGE, _BOUNDING_BOX = 1, 2, 3  # ContentProperties
_NORMALIZATION = 1  # ProcessUnitOptions
_RGB = 1  # ColorSpaceType
_BOUNDARIES = 1  # BoundingBoxType
_AXIS_LABELS, _VALUE_LABELS = 2, 3  # AssociatedFileType: the place on the last axis, or a value, is a line number
# What MediaPipe's ImageSegmenter is told beside the tables: a table of its own, with the activation it shall apply.
_SEGMENTER_OPTIONS, _OPTIONS_IDENTIFIER = "SEGMENTER_METADATA", b"V001"
_NO_ACTIVATION, _SOFTMAX = 0, 2


@dataclass(frozen=True)
class _Table:
    """A flatbuffer table: slot -> text, vector, list of tables, table, or (in `enums`) one byte."""

    fields: dict[int, object] = field(default_factory=dict)
    enums: dict[int, int] = field(default_factory=dict)


def add_metadata(content: bytes, class_names: Sequence[str], *, name: str) -> bytes:
    """Describes a detector's four outputs and packs its labels.

    Args:
        content: A flatbuffer whose signature's outputs are `OUTPUTS`.
        class_names: Names in label order.
        name: What the model calls itself.

    Returns:
        The flatbuffer with the metadata inside, and a zip with `labels.txt` behind it.

    Raises:
        ExportError: A class name that does not fit on a line, or a model without the four outputs.
    """
    model = flatbuffer.unpack(content)
    _, outputs = flatbuffer.signature_tensors(model)
    if set(outputs) != set(OUTPUTS):
        raise ExportError(f"Expected the outputs {OUTPUTS}, got {tuple(outputs)}. Do export with post-processing.")
    names = {index: output for output, index in outputs.items()}
    order = [names[int(index)] for index in model.subgraphs[0].outputs]  # MediaPipe reads entries by position
    describe(model, name, [_output_table(output) for output in order])
    return pack_labels(flatbuffer.pack(model), class_names)


def add_segmenter_metadata(content: bytes, class_names: Sequence[str], *, name: str, softmax_left: bool) -> bytes:
    """Describes a segmenter's one output, `[1, H, W, K]`, and packs its labels.

    Args:
        content: A flatbuffer of one output.
        class_names: Names in label order.
        name: What the model calls itself.
        softmax_left: Whether the output are logits, which the client makes probabilities of.

    Returns:
        The flatbuffer with the metadata inside, and a zip with `labels.txt` behind it.

    Raises:
        ExportError: A class name that does not fit on a line.
    """
    model = flatbuffer.unpack(content)
    masks = _Table({0: "masks", 3: _content(_FEATURE, _Table()), 6: [_Table({0: LABELS_FILE}, {2: _AXIS_LABELS})]})
    activation = _Table(enums={0: _SOFTMAX if softmax_left else _NO_ACTIVATION})
    options = np.frombuffer(_encode(activation, _OPTIONS_IDENTIFIER), np.uint8)
    describe(model, name, [masks], [_Table({0: _SEGMENTER_OPTIONS, 1: options})])
    return pack_labels(flatbuffer.pack(model), class_names)


def describe(model, name: str, outputs: Sequence[_Table], custom: Sequence[_Table] = ()) -> None:
    """Gives a model object the metadata of a network that takes raw pixels, its outputs described in their order."""
    _set_entry(model, _encode(_model_table(name, outputs, custom), _IDENTIFIER))


def feature_table(name: str, labels: str | None = None) -> _Table:
    """Describes an output of plain numbers; `labels` is the packed file whose lines they count."""
    fields = {0: name, 3: _content(_FEATURE, _Table())}
    if labels is not None:
        fields[6] = [_Table({0: labels}, {2: _VALUE_LABELS})]
    return _Table(fields)


def pack_labels(content: bytes, class_names: Sequence[str]) -> bytes:
    """Appends a zip with `labels.txt` to a flatbuffer.

    Raises:
        ExportError: A class name that does not fit on a line.
    """
    unusable = [label for label in class_names if label.splitlines() != [label] or not label.strip()]
    if unusable:
        raise ExportError(f"Expected class names to be one line of text each, got {unusable!r}. Do rename them.")
    file = io.BytesIO(content)
    file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(zipfile.ZipInfo(LABELS_FILE, _ZIP_DATE), "\n".join(class_names))
    return file.getvalue()


def read_labels(path: str | Path) -> tuple[str, ...]:
    """Returns the class names packed in a .tflite file, in label order.

    Raises:
        ExportError: Not a .tflite file, or one without labels.
    """
    content = flatbuffer.read_content(path)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive, archive.open(LABELS_FILE) as file:
            text = file.read(_MAX_LABELS_BYTES + 1)
    except (
        zipfile.BadZipFile,
        KeyError,
        NotImplementedError,
        EOFError,
        RuntimeError,
        ValueError,
        OSError,
    ) as error:
        raise ExportError(
            f"Expected {str(path)!r} to hold {LABELS_FILE}, got {error}. "
            "Do export it again with export/export_tflite.py, which packs the labels."
        ) from None
    if len(text) > _MAX_LABELS_BYTES:
        raise ExportError(f"Expected the labels in {str(path)!r} to be under 1 MB, got more. Do export it again.")
    return tuple(text.decode("utf-8", "replace").splitlines())


def _model_table(name: str, outputs: Sequence[_Table], custom: Sequence[_Table]) -> _Table:
    image = _Table(
        {
            0: "image",
            3: _content(_IMAGE, _Table(enums={0: _RGB})),
            4: [_Table({1: _Table({0: np.float32([0]), 1: np.float32([1])})}, {0: _NORMALIZATION})],
            5: _Table({0: np.float32([255]), 1: np.float32([0])}),
        }
    )
    graph = _Table({2: [image], 3: list(outputs), **({9: list(custom)} if custom else {})})
    return _Table({0: name, 3: [graph], 7: _MIN_PARSER_VERSION})


def _output_table(output: str) -> _Table:
    if output == "boxes":
        # Left, top, right, bottom stand in columns 1, 0, 3, 2.
        corners = _Table({0: np.uint32([1, 0, 3, 2])}, {1: _BOUNDARIES})
        return _Table({0: OUTPUT_NAMES[output], 3: _content(_BOUNDING_BOX, corners)})
    return feature_table(OUTPUT_NAMES[output], LABELS_FILE if output == "labels" else None)


def _content(kind: int, properties: _Table) -> _Table:
    return _Table({1: properties}, {0: kind})


def _encode(table: _Table, identifier: bytes) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(_write(builder, table), file_identifier=identifier)
    return bytes(builder.Output())


def _write(builder, value) -> int:
    """Writes a value, its children first, and returns its offset."""
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, np.ndarray):
        return builder.CreateNumpyVector(value)
    if isinstance(value, list):
        offsets = [_write(builder, item) for item in value]
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()
    offsets = {slot: _write(builder, item) for slot, item in value.fields.items()}
    builder.StartObject(1 + max([*value.fields, *value.enums], default=-1))
    for slot, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    for slot, number in value.enums.items():
        builder.PrependUint8Slot(slot, number, 0)
    return builder.EndObject()


def _set_entry(model, data: bytes) -> None:
    schema = flatbuffer.load_schema()
    model.buffers.append(schema.BufferT(data=np.frombuffer(data, np.uint8)))
    entry = schema.MetadataT(name=_ENTRY, buffer=len(model.buffers) - 1)
    kept = [other for other in model.metadata or () if other.name not in (_ENTRY, _ENTRY.encode())]
    model.metadata = [*kept, entry]
