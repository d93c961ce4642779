"""ImageNet from a mock of TensorFlow Datasets is written to folders of classes once."""

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
    """Mocks the builder with one image per class, darker in the training split; returns the splits read so far."""
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


def test_images_are_written_to_the_folders_of_their_classes_once(tmp_path, mocked):
    folder = extract_imagenet(tmp_path / "cache", data_dir=tmp_path / "tfds")
    train, val = load_classification(folder, "train"), load_classification(folder, "val")
    assert mocked == ["train", "validation"]
    assert len(train) == len(val) == CLASSES
    assert train.class_names == val.class_names
    assert train.class_names[0] == "n01440764"  # the tench, ImageNet's first class
    assert [Path(record.path).name for record in train.records[:2]] == ["train_999.JPEG", "train_998.JPEG"]
    for data, gray in ((train, 50), (val, 200)):
        np.testing.assert_allclose(read_image(data.records[7].path), gray, atol=2)
    assert extract_imagenet(tmp_path / "cache") == folder
    assert len(mocked) == 2


def test_an_interrupted_extraction_starts_again(tmp_path, mocked):
    folder = extract_imagenet(tmp_path, data_dir=tmp_path / "tfds")
    (folder / "done.json").unlink()
    (folder / "train" / "n01440764" / "train_999.JPEG").write_bytes(b"half")
    extract_imagenet(tmp_path, data_dir=tmp_path / "tfds")
    assert mocked == ["train", "validation"] * 2
    again = read_image(folder / "train" / "n01440764" / "train_999.JPEG")
    np.testing.assert_allclose(again, np.full((8, 8, 3), 50), atol=2)
