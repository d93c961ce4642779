"""The command `lightdet inspect`: its text and its montage of training images."""

import json

import numpy as np
import pytest
from data_trees import coco_folder, paint, painted_box, voc_tree
from PIL import Image
from shared_data import shared_data

from keras_lightdet.cli import COMMANDS, build_parser
from keras_lightdet.data import draw_segmentation_scenes, inspect_labels, load_segmentation
from keras_lightdet.data.detection.records import DetectionData, ImageRecord
from keras_lightdet.data.synthetic_scenes import draw_scenes
from keras_lightdet.errors import DataError
from keras_lightdet.visualization.batches import draw_detection_batch, draw_segmentation_batch
from keras_lightdet.visualization.boxes import IGNORED_COLOR, class_color
from keras_lightdet.visualization.montage import GAP


def inspect_data(*arguments):
    """Runs `lightdet inspect` without catching its exceptions."""
    values = vars(build_parser().parse_args(["inspect", *map(str, arguments)]))
    return COMMANDS[values.pop("command")].run(**values)


def test_the_montage_shows_images_and_boxes(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(paint(160, 320, (80, 40, 200, 120))).save(path)
    box = np.float32([[80, 40, 200, 120]])
    record = ImageRecord(str(path), 1, 320, 160, box, np.int32([0]), np.array([False]), np.float32([9600]))
    montage = draw_detection_batch(DetectionData((record,), ("a",)), (320, 320), augment=None, num_images=5, columns=2)
    assert montage.size == (2 * 320 + 4 * GAP, 3 * 320 + 4 * GAP)
    tile = np.asarray(montage)[GAP : GAP + 320, GAP : GAP + 320]
    shown = painted_box(tile, threshold=250)
    # The class name is drawn above the box, as bright as the rectangle.
    np.testing.assert_allclose(shown[[0, 2, 3]], [80, 200, 240], atol=4)
    assert 60 < shown[1] < 84
    # The sixth tile is empty, the fifth is not.
    assert (np.asarray(montage)[2 * 330 + 20 : -20, 360:-20] == 250).all()
    assert not (np.asarray(montage)[2 * 330 + 20 : -20, 20:300] == 250).all()


def test_the_summary_counts_images_boxes_and_issues(tmp_path, capsys):
    objects = {"a": [("cat", 1, 1, 9, 9), ("dog", 5, 5, 5, 9)], "b": [], "c": [("cat", 3, 3, 20, 30, 1)]}
    root = voc_tree(tmp_path / "d", objects, {"train": ["a", "b", "c"]})
    inspect_data("--data-dir", root, "--split", "train", "--input-size", 64, "--output", tmp_path / "out" / "s.png")
    text = capsys.readouterr().out
    for line in (
        "images: 3, of which 1 without objects",
        "boxes: 2, of which 1 ignored (crowd or difficult); at most 1 in an image",
        "      2  cat",
        "      0  dog",
        "issues: 1",
        f"{root}/Annotations/a.xml: object 2 (dog)",
        "anchors: Expected at least 9 different box sizes",
    ):
        assert line in text
    assert Image.open(tmp_path / "out" / "s.png").size[0] > 1000


def test_the_anchor_fit_is_printed(tmp_path, capsys):
    root = draw_scenes(tmp_path / "d", {"trainval": 6})
    inspect_data("--data-dir", root, "--input-size", 96, "--output", tmp_path / "s.png")
    text = capsys.readouterr().out
    assert "split trainval" in text and "mean best IoU 0." in text and "anchors for" in text


@pytest.fixture
def halves(tmp_path):
    """A gray image with the labels "left" and "right" in its upper quarters and void in its lower half."""
    labels = np.zeros((80, 120), np.uint8)
    labels[:, 60:], labels[40:] = 1, 9
    for folder, array in (("train", np.full((80, 120, 3), 100, np.uint8)), ("trainannot", labels)):
        (tmp_path / folder).mkdir()
        Image.fromarray(array).save(tmp_path / folder / "a.png")
    (tmp_path / "labels.txt").write_text("0 left\n1 right\n5 nowhere\n9 void\n")
    return tmp_path


def test_the_montage_shows_images_beside_their_labels(halves):
    montage = draw_segmentation_batch(
        load_segmentation(halves, "train"), (80, 120), augment=None, num_images=3, columns=2
    )
    # Two pairs of 120 + 8 + 120 in the first row, one in the second, gaps of 8, and the legend.
    assert montage.width == 2 * 8 + 2 * 248 + 16
    pixels = np.asarray(montage).astype(int)
    for top, left in ((8, 8), (8, 8 + 248 + 16), (8 + 80 + 8, 8)):
        assert (pixels[top : top + 80, left : left + 120] == 100).all()
        shown = pixels[top : top + 80, left + 128 : left + 248]
        for place, color in (((20, 30), class_color(0)), ((20, 90), class_color(1)), ((60, 60), IGNORED_COLOR)):
            np.testing.assert_allclose(shown[place], 0.4 * 100 + 0.6 * np.array(color), atol=1)
    legend = {tuple(pixel) for pixel in pixels[8 + 2 * 88 :].reshape(-1, 3)}
    assert {class_color(0), class_color(1), IGNORED_COLOR} <= legend
    assert class_color(2) not in legend


def test_the_histogram_of_label_images_is_printed(halves, capsys):
    (halves / "val").mkdir()
    (halves / "valannot").mkdir()
    inspect_data("--data-dir", halves, "--input-size", 40, 60, "--output", halves / "out" / "s.png")
    text = capsys.readouterr().out
    for line in (
        f"{halves}, split train",
        "images: 1",
        "left      2400 pixels  25.000 %  in 1 images",
        "right     2400 pixels  25.000 %  in 1 images",
        "nowhere      0 pixels   0.000 %  in 0 images",
        "(ignored) 4800 pixels  50.000 %",
        "issues: 0",
    ):
        assert line in text
    with Image.open(halves / "out" / "s.png") as montage:
        assert montage.width == 2 * 8 + 2 * (60 + 8 + 60) + 16


def test_scenes_are_inspected_and_a_faulty_label_image_is_an_error(tmp_path, capsys):
    root = draw_segmentation_scenes(tmp_path / "d", {"train": 3, "val": 1}, seed=1)
    inspect_data("--data-dir", root, "--input-size", 96, "--output", tmp_path / "s.png")
    labels = [np.asarray(Image.open(path)) for path in sorted((root / "trainannot").iterdir())]
    counts = np.bincount(np.concatenate([values.ravel() for values in labels]), minlength=7)
    text = capsys.readouterr().out
    for label, name in enumerate((root / "labels.txt").read_text().split()[1::2]):
        (line,) = (line.split() for line in text.splitlines() if line.startswith(name))
        assert (int(line[1]), int(line[6])) == (counts[label], sum((values == label).any() for values in labels))
    (tmp_path / "s.png").unlink()
    faulty = labels[1].copy()
    faulty[:2, :5] = 77
    Image.fromarray(faulty).save(root / "trainannot" / "scene_00001.png")
    with pytest.raises(DataError, match=r"(?s)1 that are not:.*scene_00001\.png.*got 77 in 10 pixels"):
        inspect_data("--data-dir", root, "--output", tmp_path / "s.png")
    assert "triangle" in capsys.readouterr().out  # the histogram of the other files is printed first
    assert not (tmp_path / "s.png").exists()


def test_boxes_and_label_images_are_distinguished_by_the_folder(tmp_path, capsys):
    """A COCO folder may have images/train and annotations/, as parallel folders of label images do."""
    root = coco_folder(tmp_path / "d")
    (root / "images" / "val").mkdir(parents=True)
    (root / "train").rename(root / "images" / "train")
    inspect_data("--data-dir", root, "--input-size", 64, "--output", tmp_path / "s.png")
    assert "boxes: 1" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="a VOC tree .*Or, for label images: .*SegNet's layout"):
        inspect_data("--data-dir", tmp_path / "empty")


def test_camvid_has_the_histogram_of_its_info_file():
    """`info.json` has the shares of pixels and the numbers of images, counted when the data set was made."""
    root = shared_data("camvid")
    report = inspect_labels(load_segmentation(root, "train"))
    known = json.loads((root / "info.json").read_text())["splits"]["train"]
    total = report.pixels.sum() + report.ignored
    for name, pixels, images in zip(report.class_names, report.pixels, report.images, strict=True):
        assert 100 * pixels / total == pytest.approx(known["pixel_share_percent"][name], abs=5e-4)
        assert images == known["images_with_class"][name]
    assert 100 * report.ignored / total == pytest.approx(known["pixel_share_percent"]["Unlabelled"], abs=5e-4)
