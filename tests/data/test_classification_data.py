"""Images in folders of classes, and their batches, which depend only on the seed and the step."""

import numpy as np
import pytest
from PIL import Image

from keras_lightdet.data import (
    ClassificationData,
    DecodeFailures,
    classification_eval_batches,
    classification_train_batches,
    draw_classification_scenes,
    load_classification,
)
from keras_lightdet.data.synthetic_scenes import SCENE_CLASS_NAMES
from keras_lightdet.errors import DataError

GRAYS = {"dark": 40, "light": 220}


def load_splits(root):
    return load_classification(root, "train"), load_classification(root, "val")


def write_grays(root, count, splits=("",)):
    """Writes images with the brightness of their class."""
    for split in splits:
        for name, gray in GRAYS.items():
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (30 + number, 20), (gray,) * 3).save(root / split / name / f"{number:02d}.png")
    return root


def test_every_tenth_image_of_a_class_is_in_val(tmp_path):
    train, val = load_splits(write_grays(tmp_path, 21))
    assert train.class_names == val.class_names == ("dark", "light")
    assert [record.path.rsplit("/", 2)[-2:] for record in val.records] == [
        [name, number] for name in ("dark", "light") for number in ("09.png", "19.png")
    ]
    assert len(train) == 2 * 19
    assert not {r.path for r in train.records} & {r.path for r in val.records}


def test_folders_of_splits_are_used(tmp_path):
    train, val = load_splits(write_grays(tmp_path, 3, ("train", "val")))
    assert all("/train/" in record.path for record in train.records)
    assert all("/val/" in record.path for record in val.records)
    assert [record.label for record in val.records] == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("splits", [("",), ("train", "val")])
def test_class_names_set_the_label_order_and_must_match(tmp_path, splits):
    write_grays(tmp_path, 10, splits)
    data = load_classification(tmp_path, "val", class_names=("light", "dark"))
    assert data.class_names == ("light", "dark")
    assert [record.label for record in data.records] == sorted(["/dark/" in record.path for record in data.records])
    with pytest.raises(DataError, match=r"\['light', 'gray'\] in .*, got \['dark', 'light'\]"):
        load_classification(tmp_path, "val", class_names=("light", "gray"))


def test_an_unknown_split_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"\['train', 'val'\], got 'test'"):
        load_classification(write_grays(tmp_path, 10), "test")


def test_images_keep_their_labels(tmp_path):
    train, val = load_splits(write_grays(tmp_path, 12, ("train", "val")))
    for images, labels in [
        *classification_train_batches(train, 16, 8, seed=3).take(6),
        *classification_eval_batches(val, 16, 8),
    ]:
        assert images.shape[1:] == (16, 16, 3)
        means = np.mean(images, axis=(1, 2, 3))
        np.testing.assert_array_equal(means > 125, np.argmax(labels, axis=1) == 1)
        assert np.max(images) <= 255


def test_evaluation_uses_the_center_crop(tmp_path):
    """Of images of 60 x 40 the central 35 x 35 pixels are red, the others blue."""
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            pixels = np.full((40, 60, 3), (0, 0, 255), np.uint8)
            pixels[2:37, 12:47] = (255, 0, 0)
            Image.fromarray(pixels).save(tmp_path / split / name / "0.png")
    images, _ = next(iter(classification_eval_batches(load_classification(tmp_path, "val"), 35, 2)))
    np.testing.assert_allclose(images, np.broadcast_to([255.0, 0, 0], (2, 35, 35, 3)), atol=1e-3)


def test_a_batch_depends_on_its_step(tmp_path):
    train, _ = load_splits(draw_classification_scenes(tmp_path, {"train": 3, "val": 1}))
    unbroken = list(classification_train_batches(train, 24, 4, seed=5).take(4))
    resumed = list(classification_train_batches(train, 24, 4, seed=5, start_step=2).take(2))
    for (images, labels), (again, same) in zip(unbroken[2:], resumed, strict=True):
        np.testing.assert_array_equal(images, again)
        np.testing.assert_array_equal(labels, same)
    assert not np.array_equal(unbroken[0][0], unbroken[1][0])
    other = next(iter(classification_train_batches(train, 24, 4, seed=6)))
    assert not np.array_equal(other[0], unbroken[0][0])


def test_damaged_images_are_reported_and_replaced_by_the_next(tmp_path):
    train, _ = load_splits(write_grays(tmp_path, 4, ("train", "val")))
    broken = train.records[2].path
    with open(broken, "r+b") as file:
        file.truncate(30)
    failures = DecodeFailures()
    for images, labels in classification_train_batches(train, 8, 4, seed=0, failures=failures).take(4):
        np.testing.assert_array_equal(np.mean(images, axis=(1, 2, 3)) > 125, np.argmax(labels, axis=1) == 1)
    assert list(failures.paths) == [broken]


def test_drawn_scenes_have_all_classes(tmp_path):
    train, val = load_splits(draw_classification_scenes(tmp_path, {"train": 2, "val": 1}, seed=1))
    assert train.class_names == SCENE_CLASS_NAMES
    assert np.bincount([record.label for record in train.records]).tolist() == [2] * len(SCENE_CLASS_NAMES)
    assert len(val) == len(SCENE_CLASS_NAMES)
    assert isinstance(train, ClassificationData)


@pytest.mark.parametrize(
    ("fault", "message"), [("none", "two or more classes"), ("empty", "Expected images"), ("few", "Add a folder val")]
)
def test_faults_are_errors(tmp_path, fault, message):
    if fault != "none":
        write_grays(tmp_path, 3)
    if fault == "empty":
        (tmp_path / "gray").mkdir()
    with pytest.raises(DataError, match=message):
        load_classification(tmp_path, "train")


def test_a_class_without_training_images_is_an_error(tmp_path):
    write_grays(tmp_path, 2, ("train", "val"))
    (tmp_path / "val" / "gray").mkdir()
    with pytest.raises(DataError, match="gray"):
        load_classification(tmp_path, "train")
