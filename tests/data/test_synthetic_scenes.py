"""Drawn scenes: reproducible by seed, written as a valid VOC tree, with boxes that contain their objects."""

import hashlib
import re

import numpy as np
import pytest

from keras_lightdet.data.detection.voc import load_voc
from keras_lightdet.data.synthetic_scenes import SCENE_CLASS_NAMES, SceneSpec, draw_scene, draw_scenes
from keras_lightdet.images import read_image


def digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_files_depend_only_on_the_seed(tmp_path):
    first, again, other = (
        draw_scenes(tmp_path / name, {"trainval": 4, "test": 2}, seed=seed)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert digest(first) == digest(again)
    images = [{name: value for name, value in digest(root).items() if name.endswith("jpg")} for root in (first, other)]
    assert not set(images[0].values()) & set(images[1].values()) and len(images[0]) == 6


def test_the_tree_is_read_as_drawn(tmp_path):
    root = draw_scenes(tmp_path / "d", {"trainval": 5, "test": 3}, seed=4)
    trainval, test = load_voc(root, "trainval", strict=True), load_voc(root, "test", strict=True)
    assert (len(trainval), len(test)) == (5, 3)
    assert not {r.image_id for r in trainval.records} & {r.image_id for r in test.records}
    for number, record in enumerate((*trainval.records, *test.records)):
        scene = draw_scene([4, number])
        np.testing.assert_array_equal(record.boxes, scene.boxes)
        names = [trainval.class_names[label] for label in record.labels]
        assert names == list(scene.names) and set(names) <= set(SCENE_CLASS_NAMES)
        # JPEG changes pixels by a few levels; a wrong or rotated image differs by tens.
        assert np.abs(read_image(record.path).astype(int) - scene.image).mean() < 8


def test_all_classes_and_sizes_occur():
    scenes = [draw_scene([0, number]) for number in range(60)]
    names = [name for scene in scenes for name in scene.names]
    assert set(names) == set(SCENE_CLASS_NAMES) and min(map(names.count, SCENE_CLASS_NAMES)) > len(names) / 15
    boxes = np.concatenate([scene.boxes for scene in scenes])
    sides = (boxes[:, 2:] - boxes[:, :2]).max(1)
    assert 10 <= sides.min() <= 24 and 250 < sides.max() <= 402
    assert any(not len(scene.boxes) for scene in scenes)


def test_boxes_contain_the_drawn_pixels():
    """The pixels that differ between a scene and its background fill the box up to its edges."""
    single = SceneSpec(objects=(1, 1), empty=0.0)
    for number in range(12):
        scene, bare = draw_scene([9, number], single), draw_scene([9, number], SceneSpec(objects=(0, 0), empty=0.0))
        if not len(scene.boxes) or scene.image.shape != bare.image.shape:
            continue
        changed = np.abs(scene.image.astype(int) - bare.image).max(-1) > 40
        ys, xs = np.nonzero(changed.any(1))[0], np.nonzero(changed.any(0))[0]
        np.testing.assert_allclose([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1], scene.boxes[0], atol=3)


@pytest.mark.parametrize("number", range(3))
def test_annotations_name_their_image(tmp_path, number):
    root = draw_scenes(tmp_path, {"train": 3})
    text = (root / "Annotations" / f"scene_{number:05d}.xml").read_text()
    assert re.search(r"<filename>(.*)</filename>", text)[1] == f"scene_{number:05d}.jpg"
