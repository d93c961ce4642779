"""A run identifies its data in any folder, and detects a changed label."""

import shutil

import numpy as np
import pytest
from PIL import Image

from keras_lightdet.data import (
    draw_classification_scenes,
    draw_detection_scenes,
    draw_segmentation_scenes,
    load_classification,
    load_detection,
    load_segmentation,
)
from keras_lightdet.runs import fingerprint


def test_label_images_are_identified_by_their_pixels_and_class_list(tmp_path):
    scenes = draw_segmentation_scenes(tmp_path / "scenes", {"train": 2}, seed=1)
    before = fingerprint(load_segmentation(scenes, "train"))
    moved = shutil.copytree(scenes, tmp_path / "moved")
    assert fingerprint(load_segmentation(moved, "train")) == before
    names = (moved / "labels.txt").read_text()
    (moved / "labels.txt").write_text(names.replace("1 cross", "2 cross").replace("2 disc", "1 disc"))
    assert fingerprint(load_segmentation(moved, "train")) != before
    (moved / "labels.txt").write_text(names)
    labels = np.asarray(Image.open(moved / "trainannot" / "scene_00001.png")).copy()
    labels[0, 0] = 1 - min(labels[0, 0], 1)
    Image.fromarray(labels).save(moved / "trainannot" / "scene_00001.png")
    assert fingerprint(load_segmentation(moved, "train")) != before


def test_boxes_are_identified_by_their_corners(tmp_path):
    scenes = draw_detection_scenes(tmp_path / "scenes", {"trainval": 2}, seed=1)
    before = fingerprint(load_detection(scenes, "trainval"))
    moved = shutil.copytree(scenes, tmp_path / "moved")
    assert fingerprint(load_detection(moved, "trainval")) == before
    annotation = next(path for path in sorted((moved / "Annotations").iterdir()) if "<xmin>" in path.read_text())
    annotation.write_text(annotation.read_text().replace("<xmin>", "<xmin>1", 1))
    assert fingerprint(load_detection(moved, "trainval")) != before


def test_folders_of_classes_are_identified_by_names_and_labels(tmp_path):
    objects = draw_classification_scenes(tmp_path / "objects", {"train": 2, "val": 1})
    before = fingerprint(load_classification(objects, "train"))
    moved = shutil.copytree(objects, tmp_path / "moved")
    assert fingerprint(load_classification(moved, "train")) == before
    image = next((moved / "train").rglob("*.jpg"))
    image.rename(image.with_name("other.jpg"))
    assert fingerprint(load_classification(moved, "train")) != before


def test_other_data_are_refused():
    with pytest.raises(TypeError, match="got list"):
        fingerprint([])
