"""TensorFlow Datasets, mocked: the same records as the data set's own files, made once."""

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

# Of 80 x 40 images; VOC's corners as written, counted from 1.
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
    """Mocks the builders; gives the splits that were read."""
    splits = []

    def as_dataset(self, split, decoders=None, **_):
        assert isinstance(decoders["image"], tfds.decode.SkipDecoding)
        name = f"{self.name}/{self.builder_config.name}"
        splits.append(split)
        made = list(examples(name, 3))
        stacked = tf.nest.map_structure(lambda *values: np.stack(values), *made)
        return tf.data.Dataset.from_tensor_slices(stacked)

    with tfds.testing.mock_data(as_dataset_fn=as_dataset):
        yield splits


@pytest.mark.parametrize("name", ["voc/2007", "voc/2012", "coco/2017"])
def test_records_are_as_in_the_data_sets_own_files(tmp_path, mocked, name):
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
        assert len(data.class_names) == 80  # Their names come with the data, which is not here.
        assert record.image_id == 501 and record.areas.tolist() == [700, 3000]
    with Image.open(io.BytesIO(jpeg(1))) as image:
        np.testing.assert_array_equal(read_image(record.path), np.asarray(image))


def test_images_are_extracted_once_and_anew_when_that_was_broken_off(tmp_path, mocked):
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


def test_a_damaged_image_is_skipped_by_name(tmp_path, mocked):
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
