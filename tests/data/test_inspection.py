"""What inspect_data prints and draws."""

import sys

import numpy as np
import pytest
from data_trees import paint, painted_box, voc_tree
from PIL import Image

from keras_lightdet.data.contact_sheet import draw_contact_sheet
from keras_lightdet.data.records import DetectionData, ImageRecord
from keras_lightdet.data.scenes import draw_scenes


@pytest.fixture
def inspect_data(monkeypatch):
    monkeypatch.syspath_prepend(f"{__file__.rsplit('/tests/', 1)[0]}/recipes")
    import inspect_data

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["inspect_data.py", *map(str, arguments)])
        inspect_data.main(inspect_data.parse_args())

    return run


def test_the_sheet_shows_pictures_and_boxes(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(paint(160, 320, (80, 40, 200, 120))).save(path)
    box = np.float32([[80, 40, 200, 120]])
    record = ImageRecord(str(path), 1, 320, 160, box, np.int32([0]), np.array([False]), np.float32([9600]))
    sheet = draw_contact_sheet(DetectionData((record,), ("a",)), (320, 320), augment=None, pictures=5, columns=2)
    assert sheet.size == (2 * 326 + 6, 3 * 326 + 6)
    tile = np.asarray(sheet)[6:326, 6:326]
    shown = painted_box(tile, threshold=250)
    # The class name stands above the box, as light as the rectangle.
    np.testing.assert_allclose(shown[[0, 2, 3]], [80, 200, 240], atol=4)
    assert 60 < shown[1] < 84
    # The blank sixth place is paper, the fifth is not.
    assert (np.asarray(sheet)[2 * 326 + 20 : -20, 350:-20] == 250).all()
    assert not (np.asarray(sheet)[2 * 326 + 20 : -20, 20:300] == 250).all()


def test_the_summary_counts_what_is_there(tmp_path, capsys, inspect_data):
    objects = {"a": [("cat", 1, 1, 9, 9), ("dog", 5, 5, 5, 9)], "b": [], "c": [("cat", 3, 3, 20, 30, 1)]}
    root = voc_tree(tmp_path / "d", objects, {"train": ["a", "b", "c"]})
    inspect_data("--data-dir", root, "--split", "train", "--input-size", 64, "--output", tmp_path / "out" / "s.png")
    text = capsys.readouterr().out
    for line in (
        "pictures: 3, of which 1 without objects",
        "boxes: 2, of which 1 ignored (crowd or difficult); at most 1 in a picture",
        "      2  cat",
        "      0  dog",
        "issues: 1",
        f"{root}/Annotations/a.xml: object 2 (dog)",
        "anchors: Expected at least 9 different box sizes",
    ):
        assert line in text
    assert Image.open(tmp_path / "out" / "s.png").size[0] > 1000


def test_the_fit_is_printed(tmp_path, capsys, inspect_data):
    root = draw_scenes(tmp_path / "d", {"trainval": 6})
    inspect_data("--data-dir", root, "--input-size", 96, "--output", tmp_path / "s.png")
    text = capsys.readouterr().out
    assert "split trainval" in text and "mean best IoU 0." in text and "anchors for" in text
