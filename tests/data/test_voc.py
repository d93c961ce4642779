"""VOC trees: corners, splits, class names, difficult objects, and reported faults."""

import numpy as np
import pytest
from data_trees import save_image, voc_tree, voc_xml
from PIL import Image
from shared_data import shared_data

from keras_lightdet.data.detection.voc import VOC_CLASS_NAMES, load_voc
from keras_lightdet.errors import DataError


def test_one_based_corners_become_continuous(tmp_path):
    voc_tree(tmp_path / "d", {"a": [("cat", 1, 1, 64, 48), ("cat", 11, 21, 20, 40, 1)]})
    (record,) = load_voc(tmp_path / "d").records
    np.testing.assert_array_equal(record.boxes, [[0, 0, 64, 48], [10, 20, 20, 40]])
    np.testing.assert_array_equal(record.areas, [64 * 48, 10 * 20])
    assert record.ignore.tolist() == [False, True]
    assert (record.image_id, record.width, record.height) == ("a", 64, 48)


def test_zero_based_corners_are_clipped_without_an_issue(tmp_path):
    voc_tree(tmp_path / "d", {"a": [("cat", 0, 0, 64, 48)]})
    data = load_voc(tmp_path / "d")
    np.testing.assert_array_equal(data.records[0].boxes, [[0, 0, 64, 48]])
    assert data.issues == ()


def test_invalid_boxes_are_reported_and_valid_ones_kept(tmp_path):
    objects = [
        ("cat", 5, 5, 20, 20),
        ("cat", 9, 9, 9, 30),
        ("cat", 30, 9, 20, 30),
        ("cat", "nan", 9, 20, 30),
        ("cat", "x", 9, 20, 30),
        ("cat", 5, 5, "1e999", 30),
        ("cat", 100, 5, 120, 30),
        ("cat", 50, 5, 90, 30),
        ("", 5, 5, 20, 20),
    ]
    voc_tree(tmp_path / "d", {"a": objects})
    data = load_voc(tmp_path / "d")
    np.testing.assert_array_equal(data.records[0].boxes, [[4, 4, 20, 20], [49, 4, 64, 30]])
    assert [(issue.kind, issue.detail.split(" (")[0]) for issue in data.issues] == [
        ("box without area", "object 2"),
        ("box without area", "object 3"),
        ("box not finite", "object 4"),
        ("box not finite", "object 5"),
        ("box not finite", "object 6"),
        ("box outside", "object 7"),
        ("box clipped", "object 8"),
        ("no class name", "object 9"),
    ]
    assert all(issue.path.endswith("Annotations/a.xml") for issue in data.issues)
    with pytest.raises(DataError, match="a.xml.*object 2"):
        load_voc(tmp_path / "d", strict=True)


def test_splits_are_those_of_the_split_files(tmp_path):
    images = {stem: [("cat", 1, 1, 9, 9)] for stem in "abcd"}
    voc_tree(tmp_path / "d", images, {"train": ["c", "a  1"], "val": ["b", "b"]})
    ids = {
        split: [r.image_id for r in load_voc(tmp_path / "d", split).records] for split in ("train", "val", "trainval")
    }
    assert ids == {"train": ["c", "a"], "val": ["b"], "trainval": ["c", "a", "b"]}
    assert [issue.kind for issue in load_voc(tmp_path / "d", "val").issues] == ["listed twice"]
    with pytest.raises(DataError, match=r"'test'.*\['train', 'val'\]"):
        load_voc(tmp_path / "d", "test")


def test_a_tree_without_split_files_is_split_by_the_seed(tmp_path):
    voc_tree(tmp_path / "d", {f"p{n:02}": [("cat", 1, 1, 9, 9)] for n in range(20)})
    ids = {s: {r.image_id for r in load_voc(tmp_path / "d", s).records} for s in ("train", "val", "trainval", "test")}
    assert {split: len(in_split) for split, in_split in ids.items()} == {
        "train": 14,
        "val": 3,
        "trainval": 17,
        "test": 3,
    }
    assert ids["train"] | ids["val"] == ids["trainval"] and not ids["trainval"] & ids["test"]
    assert not ids["train"] & ids["val"]
    assert ids["test"] == {r.image_id for r in load_voc(tmp_path / "d", "test").records}
    assert ids["test"] != {r.image_id for r in load_voc(tmp_path / "d", "test", seed=1).records}
    with pytest.raises(DataError, match="'tests'"):
        load_voc(tmp_path / "d", "tests")


def test_class_names_are_the_same_in_all_splits(tmp_path):
    images = {"a": [("zebra", 1, 1, 9, 9)], "b": [("ant", 1, 1, 9, 9)], "c": []}
    voc_tree(tmp_path / "d", images, {"train": ["a", "c"], "val": ["b"]})
    train, val = load_voc(tmp_path / "d", "train"), load_voc(tmp_path / "d", "val")
    assert train.class_names == val.class_names == ("ant", "zebra")
    assert train.records[0].labels.tolist() == [1] and val.records[0].labels.tolist() == [0]
    assert len(train.records[1].boxes) == 0


def test_class_names_set_the_label_order_and_must_match(tmp_path):
    voc_tree(tmp_path / "d", {"a": [("ant", 1, 1, 9, 9), ("bee", 1, 1, 9, 9)]})
    data = load_voc(tmp_path / "d", class_names=("bee", "cow", "ant"))
    assert data.class_names == ("bee", "cow", "ant") and data.records[0].labels.tolist() == [2, 0]
    with pytest.raises(DataError, match=r"\['ant', 'cow'\], got \['ant', 'bee'\]"):
        load_voc(tmp_path / "d", class_names=("ant", "cow"))


@pytest.mark.parametrize("root", ["VOCdevkit", ""])
def test_the_years_of_a_devkit_are_joined_with_the_20_classes(tmp_path, root):
    devkit = tmp_path / "VOCdevkit"
    voc_tree(devkit / "VOC2007", {"1": [("dog", 1, 1, 9, 9)], "2": []}, {"trainval": ["1"], "test": ["2"]})
    voc_tree(devkit / "VOC2012", {"1": [("cat", 1, 1, 9, 9)]}, {"trainval": ["1"]})
    data = load_voc(tmp_path / root, "trainval")
    assert data.class_names == VOC_CLASS_NAMES and len(VOC_CLASS_NAMES) == 20
    assert [record.image_id for record in data.records] == ["VOC2007/1", "VOC2012/1"]
    assert [VOC_CLASS_NAMES[record.labels[0]] for record in data.records] == ["dog", "cat"]
    assert [record.image_id for record in load_voc(tmp_path / root, "test").records] == ["VOC2007/2"]


def test_boxes_of_the_stored_image_are_turned_by_the_exif_orientation(tmp_path):
    root = voc_tree(tmp_path / "d", {"a": [("cat", 11, 6, 30, 15)]})
    exif = Image.Exif()
    exif[0x0112] = 6
    save_image(root / "JPEGImages" / "a.jpg", exif=exif)
    data = load_voc(root)
    record = data.records[0]
    assert (record.width, record.height) == (48, 64)
    # Rotated by 90 degrees clockwise, (x, y) in 64 x 48 becomes (48 - y, x).
    np.testing.assert_array_equal(record.boxes, [[48 - 15, 10, 48 - 5, 30]])
    assert [issue.kind for issue in data.issues] == ["boxes on the unrotated image"]
    (root / "Annotations" / "a.xml").write_text(voc_xml([("cat", 11, 6, 30, 15)], size=(48, 64)))
    np.testing.assert_array_equal(load_voc(root).records[0].boxes, [[10, 5, 30, 15]])
    assert load_voc(root).issues == ()


def test_a_wrong_stated_size_is_reported(tmp_path):
    root = voc_tree(tmp_path / "d", {"a": [("cat", 11, 6, 30, 15)]})
    (root / "Annotations" / "a.xml").write_text(voc_xml([("cat", 11, 6, 30, 15)], size=(640, 480)))
    assert [issue.kind for issue in load_voc(root).issues] == ["size differs"]
    (root / "Annotations" / "a.xml").write_text(voc_xml([("cat", 11, 6, 30, 15)], size=(0, 0)))
    assert load_voc(root).issues == ()


def test_an_image_is_found_by_stem_or_by_filename(tmp_path):
    root = voc_tree(tmp_path / "d", {"a": [], "b": []})
    (root / "JPEGImages" / "a.jpg").rename(root / "JPEGImages" / "other.jpg")
    (root / "Annotations" / "a.xml").write_text(voc_xml([], filename="other.jpg"))
    (root / "JPEGImages" / "b.jpg").unlink()
    save_image(root / "JPEGImages" / "b.PNG")
    assert [record.path.rsplit("/")[-1] for record in load_voc(root).records] == ["other.jpg", "b.PNG"]


def test_damaged_files_are_skipped_and_reported(tmp_path):
    root = voc_tree(tmp_path / "d", {stem: [("cat", 1, 1, 9, 9)] for stem in "abcd"}, {"train": list("abcde")})
    (root / "JPEGImages" / "a.jpg").write_bytes(b"damaged")
    (root / "Annotations" / "b.xml").write_text("<annotation>")
    (root / "JPEGImages" / "c.jpg").unlink()
    data = load_voc(root, "train")
    assert [record.image_id for record in data.records] == ["d"]
    kinds = {issue.path.rsplit("/")[-1]: issue.kind for issue in data.issues}
    assert kinds == {
        "b.xml": "annotation unreadable",
        "e.xml": "no annotation",
        "a.jpg": "image unreadable",
        "c.jpg": "image unreadable",
    }
    with pytest.raises(DataError, match="b.xml"):
        load_voc(root, "train", strict=True)


def test_strict_detects_a_truncated_image(tmp_path):
    root = voc_tree(tmp_path / "d", {"a": [], "b": []})
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "JPEGImages" / "b.jpg")
    content = (root / "JPEGImages" / "b.jpg").read_bytes()
    (root / "JPEGImages" / "b.jpg").write_bytes(content[: len(content) * 2 // 3])
    assert len(load_voc(root)) == 2
    with pytest.raises(DataError, match="b.jpg.*truncated"):
        load_voc(root, strict=True)


def test_bccd_has_two_boxes_without_area_and_no_other_fault():
    root = shared_data("bccd")
    train, test = load_voc(root, "trainval"), load_voc(root, "test")
    assert (len(train), len(test)) == (292, 72)
    assert train.class_names == ("Platelets", "RBC", "WBC")
    assert sum(len(r.boxes) for data in (train, test) for r in data.records) == 4888 - 2
    issues = [(issue.kind, issue.path.rsplit("/")[-1]) for data in (train, test) for issue in data.issues]
    assert issues == [("box without area", "BloodImage_00338.xml"), ("box without area", "BloodImage_00343.xml")]
