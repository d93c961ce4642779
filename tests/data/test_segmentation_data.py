"""Label images: three layouts, values and colors, and errors that name the faulty file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shared_data import shared_data

from keras_lightdet.data import (
    LabelTable,
    draw_segmentation_scenes,
    inspect_labels,
    load_segmentation,
    read_label_list,
    segmentation_splits,
)
from keras_lightdet.data.segmentation.loading import CITYSCAPES_CLASS_NAMES
from keras_lightdet.data.synthetic_scenes import SCENE_CLASS_NAMES, draw_scene
from keras_lightdet.errors import DataError
from keras_lightdet.labels import IGNORE

LABELS = np.uint8([[0, 1, 2], [2, 11, 255]])


def save(array, path, palette=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.uint8(array))
    if palette is not None:
        image = Image.frombytes("P", image.size, np.uint8(array).tobytes())
        image.putpalette(palette)
    image.save(path)
    return path


def segnet_tree(root, labels=LABELS, names="0 sky\n1 road\n2 car\n11 Unlabeled\n"):
    save(np.zeros((2, 3, 3)), root / "train" / "a.png")
    save(labels, root / "trainannot" / "a.png")
    save(np.zeros((2, 3, 3)), root / "test" / "b.png")
    save(labels, root / "testannot" / "b.png")
    (root / "labels.txt").write_text(names)
    return root


def test_segnets_layout(tmp_path):
    root = segnet_tree(tmp_path)
    assert segmentation_splits(root) == ("train", "test", "test")
    data = load_segmentation(root, "train")
    assert data.class_names == ("sky", "road", "car")
    np.testing.assert_array_equal(data.read_labels(0), [[0, 1, 2], [2, IGNORE, IGNORE]])
    (root / "train.txt").write_text("/any/where/train/a.png /any/where/trainannot/a.png\n")
    assert [record.path for record in load_segmentation(root, "train").records] == [str(root / "train" / "a.png")]


def test_parallel_folders_of_palette_images(tmp_path):
    """The labels are the palette's indices; its colors have no meaning."""
    save(np.zeros((2, 3, 3)), tmp_path / "images" / "train" / "a.jpg")
    save(np.uint8([[0, 1, 0], [1, 0, 255]]), tmp_path / "masks" / "train" / "a.png", palette=[9, 200, 0] * 256)
    (tmp_path / "labels.txt").write_text("sky\nroad\n")
    data = load_segmentation(tmp_path, "train")
    assert data.class_names == ("sky", "road")
    np.testing.assert_array_equal(data.read_labels(0), [[0, 1, 0], [1, 0, IGNORE]])


def test_colors(tmp_path):
    colors = np.uint8([[(128, 64, 128), (0, 0, 0), (64, 0, 128)]])
    names = "128 64 128 road\n64 0 128 car\n64 0 192 car\n0 0 0 void\n"
    root = segnet_tree(tmp_path, colors, names)
    save(np.zeros((1, 3, 3)), root / "train" / "a.png")
    data = load_segmentation(root, "train")
    assert data.class_names == ("road", "car")
    np.testing.assert_array_equal(data.read_labels(0), [[0, IGNORE, 1]])
    save(colors + np.uint8(1), root / "trainannot" / "a.png")
    with pytest.raises(DataError, match=r"a.png.*\(129, 65, 129\) in 1 pixels"):
        data.read_labels(0)


def test_cityscapes_uses_19_of_34_ids(tmp_path):
    save(np.zeros((1, 35, 3)), tmp_path / "leftImg8bit" / "train" / "ulm" / "ulm_0_leftImg8bit.png")
    save(np.arange(35)[None], tmp_path / "gtFine" / "train" / "ulm" / "ulm_0_gtFine_labelIds.png")
    data = load_segmentation(tmp_path, "train")
    assert data.class_names == CITYSCAPES_CLASS_NAMES
    with pytest.raises(DataError, match="got 34 in 1 pixels"):
        data.read_labels(0)
    save(np.r_[np.arange(34), 255][None], Path(data.records[0].label_path))
    # The data set's own table: id -> trainId.
    train_ids = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13,
                 27: 14, 28: 15, 31: 16, 32: 17, 33: 18}  # fmt: skip
    expected = [train_ids.get(value, IGNORE) for value in range(34)] + [IGNORE]
    np.testing.assert_array_equal(data.read_labels(0)[0], expected)


def test_camvid():
    root = shared_data("camvid")
    counts = [len(load_segmentation(root, split)) for split in ("train", "val", "test")]
    assert counts == [367, 101, 233]
    data = load_segmentation(root, "val")
    assert len(data.class_names) == 11
    labels = data.read_labels(0)
    raw = np.asarray(Image.open(data.records[0].label_path))
    np.testing.assert_array_equal(labels, np.where(raw == 11, IGNORE, raw))


def test_the_histogram_counts_pixels_and_images(tmp_path):
    data = load_segmentation(segnet_tree(tmp_path), "train")
    report = inspect_labels(data)
    assert (report.pixels.tolist(), report.images.tolist(), report.ignored) == ([1, 1, 2], [1, 1, 1], 2)
    assert "car       2 pixels  33.333 %  in 1 images" in report.table()
    report.raise_on_faults()


def test_unlisted_values_are_an_error(tmp_path):
    root = segnet_tree(tmp_path)
    save(np.uint8([[0, 7, 7], [0, 0, 9]]), root / "trainannot" / "a.png")
    report = inspect_labels(load_segmentation(root, "train"))
    with pytest.raises(DataError, match=r"(?s)1 that are not:.*trainannot/a.png.*got 7 in 2 pixels, 9 in 1 pixels"):
        report.raise_on_faults()


FAULTS = {
    "another size": (lambda root: save(np.zeros((2, 4)), root / "trainannot" / "a.png"), "3 x 2 pixels.*got 4 x 2"),
    "colors": (
        lambda root: save(np.zeros((2, 3, 3)), root / "trainannot" / "a.png"),
        "one value per pixel, got mode RGB",
    ),
    "cut off": (lambda root: (root / "trainannot" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 20), "whole"),
    "empty": (lambda root: (root / "trainannot" / "a.png").write_bytes(b""), "whole"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_damaged_labels_are_errors(tmp_path, name):
    spoil, message = FAULTS[name]
    data = load_segmentation(segnet_tree(tmp_path), "train")
    spoil(tmp_path)
    with pytest.raises(DataError, match=rf"(?s)trainannot.a.png.*{message}"):
        data.read_labels(0)


def test_missing_labels_are_skipped_or_an_error(tmp_path):
    root = segnet_tree(tmp_path)
    save(np.zeros((2, 3, 3)), root / "train" / "z.png")
    data = load_segmentation(root, "train")
    assert len(data) == 1
    assert "z.png" in data.issues[0].detail
    with pytest.raises(DataError, match="trainannot.z.png"):
        load_segmentation(root, "train", strict=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 sky\n0 road\n", "got '0 road'"),
        ("0 sky\n1\n", "got '1'"),
        ("1 2 3 sky\n5 road\n", "values or colors"),
        ("1 2 300 sky\n", "got '1 2 300 sky'"),
        ("1 2 sky\n", "got '1 2 sky'"),
        ("99999999999999999999 sky\n", "got '9999"),
        ("0 void\n", "1 to 255 classes, got 0"),
        ("", "values or colors"),
    ],
)
def test_invalid_label_lists_are_errors(tmp_path, text, message):
    (tmp_path / "labels.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_label_list(tmp_path / "labels.txt")


def test_other_folders_and_classes_are_errors(tmp_path):
    with pytest.raises(DataError, match="SegNet's layout"):
        load_segmentation(tmp_path, "train")
    with pytest.raises(DataError, match="Expected a folder"):
        load_segmentation(tmp_path / "none", "train")
    root = segnet_tree(tmp_path)
    with pytest.raises(DataError, match=r"the classes \['sky'\], got \['sky', 'road', 'car'\]"):
        load_segmentation(root, "train", class_names=("sky",))
    (root / "labels.txt").unlink()
    with pytest.raises(DataError, match="labels.txt"):
        load_segmentation(root, "train")


def test_sixteen_bit_values_are_read(tmp_path):
    Image.fromarray(np.uint16([[300, 5]])).save(tmp_path / "a.png")
    table = LabelTable(("far", "near"), {300: 0, 5: 1})
    np.testing.assert_array_equal(table.read(tmp_path / "a.png"), [[0, 1]])


def test_drawn_scenes_label_the_visible_pixels(tmp_path):
    root = draw_segmentation_scenes(tmp_path, {"train": 2, "val": 1}, seed=3)
    data = load_segmentation(root, "train")
    assert data.class_names == ("background", *SCENE_CLASS_NAMES)
    assert segmentation_splits(root) == ("train", "val", "val")
    scene = draw_scene([3, 1])
    labels = data.read_labels(1)
    np.testing.assert_array_equal(labels, scene.labels)
    # All boxes contain pixels of their class, and no labeled pixel lies outside the boxes.
    inside = np.zeros(labels.shape, bool)
    for (x_min, y_min, x_max, y_max), name in zip(scene.boxes, scene.names, strict=True):
        inside[y_min:y_max, x_min:x_max] = True
        assert (labels[y_min:y_max, x_min:x_max] == SCENE_CLASS_NAMES.index(name) + 1).any()
    assert not labels[~inside].any()
