"""Metadata read with the schema's generated classes, packed labels, and damaged or foreign files."""

import importlib.util
import random
import zipfile
from pathlib import Path

import pytest

from keras_lightdet.deploy import TFLiteDetector, flatbuffer, read_labels
from keras_lightdet.deploy.metadata import add_metadata, pack_labels
from keras_lightdet.errors import ExportError


@pytest.fixture(scope="module")
def official():
    """The schema's classes as shipped with MediaPipe, whose package no longer imports them."""
    root = importlib.util.find_spec("mediapipe")
    if root is None:
        pytest.skip("mediapipe is not installed")
    path = Path(root.origin).parent / "tasks" / "metadata" / "metadata_schema_py_generated.py"
    spec = importlib.util.spec_from_file_location("metadata_schema", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_official_classes_read_what_was_written(exported, official):
    model = flatbuffer.unpack(flatbuffer.read_content(exported("int8")[0]))
    entries = {entry.name: entry.buffer for entry in model.metadata}
    data = bytes(model.buffers[entries[b"TFLITE_METADATA"]].data)
    assert data[4:8] == b"M001"
    metadata = official.ModelMetadataT.InitFromPackedBuf(bytearray(data), 0)
    (graph,) = metadata.subgraphMetadata
    (image,) = graph.inputTensorMetadata
    assert isinstance(image.content.contentProperties, official.ImagePropertiesT)
    assert image.content.contentProperties.colorSpace == official.ColorSpaceType.RGB
    (unit,) = image.processUnits
    assert (unit.options.mean.tolist(), unit.options.std.tolist()) == ([0.0], [1.0])
    outputs = {tensor.name: tensor for tensor in graph.outputTensorMetadata}
    assert set(outputs) == {b"location", b"category", b"score", b"number of detections"}
    box = outputs[b"location"].content.contentProperties
    assert box.index.tolist() == [1, 0, 3, 2]
    assert box.type == official.BoundingBoxType.BOUNDARIES
    (labels,) = outputs[b"category"].associatedFiles
    assert labels.name == b"labels.txt"
    assert labels.type == official.AssociatedFileType.TENSOR_VALUE_LABELS


def test_entries_are_in_the_order_of_the_outputs(exported, official):
    model = flatbuffer.unpack(flatbuffer.read_content(exported("int8")[0]))
    entries = {entry.name: entry.buffer for entry in model.metadata}
    data = bytearray(bytes(model.buffers[entries[b"TFLITE_METADATA"]].data))
    metadata = official.ModelMetadataT.InitFromPackedBuf(data, 0)
    named = [tensor.name.decode() for tensor in metadata.subgraphMetadata[0].outputTensorMetadata]
    ours = {"boxes": "location", "labels": "category", "scores": "score", "count": "number of detections"}
    _, outputs = flatbuffer.signature_tensors(model)
    position = {index: name for name, index in outputs.items()}
    assert named == [ours[position[int(index)]] for index in model.subgraphs[0].outputs]


def test_labels_of_any_script_are_read_back(exported, tmp_path):
    names = ("rotes Blutkörperchen", "白血球", "a, b; c", "trailing space ")
    path = tmp_path / "m.tflite"
    path.write_bytes(pack_labels(bare(exported), names))
    assert read_labels(path) == names
    with zipfile.ZipFile(path) as archive:  # as Android's metadata reader opens it
        assert archive.namelist() == ["labels.txt"]


def bare(exported):
    """The flatbuffer of a file without metadata and labels."""
    model = flatbuffer.unpack(flatbuffer.read_content(exported("none")[0]))
    model.metadata = []
    return flatbuffer.pack(model)


@pytest.mark.parametrize("name", ["two\nlines", "", "  "])
def test_a_name_that_is_not_one_line_is_rejected(exported, name):
    with pytest.raises(ExportError, match="one line"):
        pack_labels(bare(exported), ("good", name))


def test_metadata_requires_the_four_outputs(exported):
    content = flatbuffer.read_content(exported("none", "none")[0])
    with pytest.raises(ExportError, match="post-processing"):
        add_metadata(content, ("a",), name="m")


def test_a_file_of_raw_outputs_has_labels_but_is_no_detector(exported, model):
    path = exported("none", "none")[0]
    assert read_labels(path) == model.class_names
    with pytest.raises(ExportError, match="builtin"):
        TFLiteDetector(path)


def hostile_files(good: bytes) -> dict[str, bytes]:
    """Incomplete, damaged and foreign files."""
    cuts = {f"cut at {share:.0%}": good[: int(len(good) * share)] for share in (0.0, 0.0001, 0.3, 0.9, 0.995)}
    return {
        **cuts,
        "text": b"not a model at all, but long enough to be read",
        "zip alone": pack_labels(b"", ("a",)),
        "identifier alone": b"\x18\x00\x00\x00TFL3" + bytes(64),
        "wild offsets": b"\xff\xff\xff\x7fTFL3" + b"\xff" * 4096,
        "labels on random bytes": pack_labels(b"\x18\x00\x00\x00TFL3" + bytes(range(256)) * 40, ("a",)),
        "no metadata": good[: good.rindex(b"PK\x03\x04")],
    }


@pytest.fixture(scope="module")
def good(exported):
    return exported("none")[0].read_bytes()


@pytest.mark.parametrize("case", list(hostile_files(bytes(50) + b"PK\x03\x04")))
def test_hostile_files_are_rejected_by_name(good, tmp_path, case):
    path = tmp_path / "hostile.tflite"
    path.write_bytes(hostile_files(good)[case])
    with pytest.raises(ExportError, match=r"hostile\.tflite"):
        TFLiteDetector(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ExportError, match=r"nowhere\.tflite"):
        TFLiteDetector(tmp_path / "nowhere.tflite")


def test_damage_in_the_graph_never_passes_silently(good, tmp_path):
    """Bytes overwritten in the tables (not the weights): rejected or read as before, never another exception."""
    path = tmp_path / "damaged.tflite"
    generator = random.Random(0)
    for _ in range(15):
        damaged = bytearray(good)
        start = generator.randrange(0, 400)
        damaged[start : start + 8] = generator.randbytes(8)
        path.write_bytes(damaged)
        try:
            assert TFLiteDetector(path).class_names
        except ExportError as error:
            assert "damaged.tflite" in str(error)
