"""ImageNet of TensorFlow Datasets, mocked: folders of classes, written once."""

import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_lightdet.data import extract_imagenet, load_classification
from keras_lightdet.images import read_image

tfds = pytest.importorskip("tensorflow_datasets")
CLASSES = 1000


def jpeg(gray):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (gray, gray, gray)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def mocked():
    """Mocks the builder: an image of each class, darker in the split to train on; gives the splits that were read."""
    splits = []

    def as_dataset(self, split, decoders=None, **_):
        assert isinstance(decoders["image"], tfds.decode.SkipDecoding)
        splits.append(split)
        names = [f"{split}_{number}.JPEG" for number in range(CLASSES)]
        image = jpeg(50 if split == "train" else 200)
        examples = {"file_name": names, "image": [image] * CLASSES, "label": np.arange(CLASSES)[::-1].copy()}
        return tf.data.Dataset.from_tensor_slices(examples)

    with tfds.testing.mock_data(as_dataset_fn=as_dataset):
        yield splits


def test_images_go_to_the_folders_of_their_classes_once(tmp_path, mocked):
    folder = extract_imagenet(tmp_path / "cache", data_dir=tmp_path / "tfds")
    train, val = load_classification(folder, "train"), load_classification(folder, "val")
    assert mocked == ["train", "validation"]
    assert len(train) == len(val) == CLASSES
    assert train.class_names == val.class_names
    assert train.class_names[0] == "n01440764"  # the tench, by which ImageNet's classes start
    assert [Path(record.path).name for record in train.records[:2]] == ["train_999.JPEG", "train_998.JPEG"]
    for data, gray in ((train, 50), (val, 200)):
        np.testing.assert_allclose(read_image(data.records[7].path), gray, atol=2)
    assert extract_imagenet(tmp_path / "cache") == folder
    assert len(mocked) == 2


def test_a_broken_extraction_is_made_again(tmp_path, mocked):
    folder = extract_imagenet(tmp_path, data_dir=tmp_path / "tfds")
    (folder / "done.json").unlink()
    (folder / "train" / "n01440764" / "train_999.JPEG").write_bytes(b"half")
    extract_imagenet(tmp_path, data_dir=tmp_path / "tfds")
    assert mocked == ["train", "validation"] * 2
    again = read_image(folder / "train" / "n01440764" / "train_999.JPEG")
    np.testing.assert_allclose(again, np.full((8, 8, 3), 50), atol=2)
