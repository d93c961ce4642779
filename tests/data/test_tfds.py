"""A mock of TensorFlow Datasets gives the records of the data set's own files, extracted once."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_lightdet.data.detection.tfds import load_tfds
from keras_lightdet.data.detection.voc import VOC_CLASS_NAMES
from keras_lightdet.errors import DataError
from keras_lightdet.images import read_image

tfds = pytest.importorskip("tensorflow_datasets")

# In images of 80 x 40 pixels; VOC's corners as written, counted from 1.
CORNERS = np.array([(11, 6, 50, 30), (1, 1, 80, 40)], np.float32)


def jpeg(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (80, 40), (number * 40, 90, 200)).save(buffer, "JPEG")
    return buffer.getvalue()


def examples(name: str, count: int):
    x_min, y_min, x_max, y_max = CORNERS.T / [[80], [40], [80], [40]]
    bbox = np.stack([y_min, x_min, y_max, x_max], -1).astype(np.float32)
    for number in range(count):
        objects = {"bbox": bbox, "label": np.int64([3, 11])}
        if name.startswith("voc"):
            objects["is_difficult"] = np.array([False, True])
        else:
            objects |= {"is_crowd": np.array([False, True]), "area": np.int64([700, 3000])}
        example = {"image": jpeg(number), "image/filename": f"{number:06}.jpg".encode(), "objects": objects}
        yield example if name.startswith("voc") else {**example, "image/id": np.int64(500 + number)}


@pytest.fixture
def mocked():
    """Mocks the builders; returns the splits read so far."""
    splits = []

    def as_dataset(self, split, decoders=None, **_):
        assert isinstance(decoders["image"], tfds.decode.SkipDecoding)
        name = f"{self.name}/{self.builder_config.name}"
        splits.append(split)
        stacked = tf.nest.map_structure(lambda *values: np.stack(values), *examples(name, 3))
        return tf.data.Dataset.from_tensor_slices(stacked)

    with tfds.testing.mock_data(as_dataset_fn=as_dataset):
        yield splits


@pytest.mark.parametrize("name", ["voc/2007", "voc/2012", "coco/2017"])
def test_records_equal_those_of_the_data_sets_own_files(tmp_path, mocked, name):
    split = "train" if name.startswith("coco") else "trainval"
    data = load_tfds(name, split, cache_dir=tmp_path / "cache", data_dir=tmp_path / "tfds")
    assert mocked == ["train" if name.startswith("coco") else "train+validation"]
    assert len(data) == 3 and data.issues == ()
    record = data.records[1]
    first = 1 if name.startswith("voc") else 0
    np.testing.assert_allclose(record.boxes, CORNERS - np.float32([first, first, 0, 0]), atol=1e-4)
    assert record.labels.tolist() == [3, 11] and record.ignore.tolist() == [False, True]
    assert (record.width, record.height) == (80, 40)
    if name.startswith("voc"):
        assert data.class_names == VOC_CLASS_NAMES and record.image_id == "000001"
    else:
        assert len(data.class_names) == 80  # their names come with the real data
        assert record.image_id == 501 and record.areas.tolist() == [700, 3000]
    with Image.open(io.BytesIO(jpeg(1))) as image:
        np.testing.assert_array_equal(read_image(record.path), np.asarray(image))


def test_images_are_extracted_once_and_again_after_an_interruption(tmp_path, mocked):
    options = {"cache_dir": tmp_path / "cache", "data_dir": tmp_path / "tfds"}
    first = load_tfds("voc/2007", "test", **options)
    again = load_tfds("voc/2007", "test", **options)
    assert mocked == ["test"]
    assert [record.path for record in first.records] == [record.path for record in again.records]
    index = tmp_path / "cache" / "voc" / "2007" / "test" / "index.json"
    index.write_text(index.read_text()[:50])
    assert len(load_tfds("voc/2007", "test", **options)) == 3 and len(mocked) == 2
    assert json.loads(index.read_text())["class_names"] == list(VOC_CLASS_NAMES)
    assert not list(index.parent.glob(".*.saving"))


def test_a_damaged_image_is_skipped_and_reported(tmp_path, mocked):
    options = {"cache_dir": tmp_path / "cache", "data_dir": tmp_path / "tfds"}
    data = load_tfds("voc/2007", "test", **options)
    Path(data.records[0].path).write_bytes(b"")
    again = load_tfds("voc/2007", "test", **options)
    assert len(again) == 2 and [issue.path for issue in again.issues] == [data.records[0].path]
    with pytest.raises(DataError, match="000000.jpg"):
        load_tfds("voc/2007", "test", strict=True, **options)


def test_unknown_names_and_splits_are_errors(tmp_path, mocked):
    with pytest.raises(DataError, match="'mnist'.*from its files"):
        load_tfds("mnist", "train", cache_dir=tmp_path)
    with pytest.raises(DataError, match="'trainval'.*got 'nonsense'"):
        load_tfds("voc/2007", "nonsense", cache_dir=tmp_path, data_dir=tmp_path / "tfds")


def test_an_extraction_of_an_earlier_version_is_read(tmp_path):
    folder = tmp_path / "voc" / "2007" / "test"
    folder.mkdir(parents=True)
    (folder / "000001.jpg").write_bytes(jpeg(1))
    entry = {"file": "000001.jpg", "id": None, "boxes": [[0.25, 0.5, 0.75, 1.0]], "labels": [0], "ignore": [True]}
    content = {"layout": 1, "class_names": ["cat"], "pictures": [{**entry, "areas": None}]}
    (folder / "index.json").write_text(json.dumps(content))
    (record,) = load_tfds("voc/2007", "test", cache_dir=tmp_path).records
    assert (record.image_id, record.labels.tolist(), record.ignore.tolist()) == ("000001", [0], [True])
    np.testing.assert_array_equal(record.boxes, [[39, 9, 80, 30]])
    np.testing.assert_array_equal(record.areas, [41 * 21])
