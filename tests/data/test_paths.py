"""All path arguments of the data functions expand `~`."""

import numpy as np
import pytest
from data_trees import coco_folder, save_image, voc_tree
from PIL import Image

from keras_lightdet.data import (
    default_splits,
    draw_classification_scenes,
    draw_detection_scenes,
    draw_segmentation_scenes,
    load_classification,
    load_coco,
    load_detection,
    load_segmentation,
    load_voc,
    segmentation_splits,
)
from keras_lightdet.files import expand_user
from keras_lightdet.images import read_header, read_image, read_label_pixels, read_size


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    return tmp_path


def test_expand_user(home):
    assert expand_user("~/data") == home / "data"
    assert expand_user(home) == home
    assert str(expand_user("a~b/~c")) == "a~b/~c"


def test_detection_data(home):
    voc_tree(home / "voc", {"a": [("cat", 1, 1, 9, 9)]})
    coco_folder(home / "coco")
    assert default_splits("~/voc") == ("trainval", "test")
    for data in (
        load_detection("~/voc", "trainval"),
        load_voc("~/voc"),
        load_detection("~/coco", "train"),
        load_coco("~/coco/annotations/instances_train.json", "~/coco/train"),
    ):
        assert len(data) == 1 and data.records[0].path.startswith(str(home))


def test_segmentation_data(home):
    assert draw_segmentation_scenes("~/scenes", {"train": 1, "val": 1}) == home / "scenes"
    assert segmentation_splits("~/scenes") == ("train", "val", "val")
    data = load_segmentation("~/scenes", "train")
    assert data.read_labels(0).shape == (data.records[0].height, data.records[0].width)


def test_classification_data(home):
    draw_classification_scenes("~/objects", {"train": 1, "val": 1})
    assert len(load_classification("~/objects", "val")) == 6


def test_scenes(home):
    assert draw_detection_scenes("~/scenes", {"train": 1}) == home / "scenes"


def test_images(home):
    save_image(home / "a.png", size=(8, 6))
    Image.fromarray(np.zeros((6, 8), np.uint8)).save(home / "labels.png")
    assert read_image("~/a.png").shape == (6, 8, 3)
    assert read_size("~/a.png") == (8, 6) and read_header("~/a.png").width == 8
    assert read_label_pixels("~/labels.png", colors=False).shape == (6, 8)
