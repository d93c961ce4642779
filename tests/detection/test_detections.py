"""Detections: access, conversion to plain Python values, the view in a notebook."""

import base64
import io
import json
import re

import numpy as np
import pytest
from evaluation_cases import detections_of
from PIL import Image
from small_detector import small_rsanet

from keras_lightdet.detection import Detection, Detections

NAMES = ("cat", "<b>dog</b>")
DETECTIONS = detections_of([[0, 1, 2, 3.5], [4, 5, 9, 9], [1, 1, 2, 2]], [0.9, 0.5, 0.25], [1, 0, 1], NAMES)


def test_an_index_gives_one_detection():
    assert DETECTIONS[0] == Detection("<b>dog</b>", 1, pytest.approx(0.9), (0.0, 1.0, 2.0, 3.5))
    assert DETECTIONS[-1].score == 0.25
    assert DETECTIONS[np.int64(1)].class_name == "cat"
    with pytest.raises(IndexError):
        DETECTIONS[3]


def test_slices_masks_and_indices_give_detections():
    assert DETECTIONS[1:] == detections_of([[4, 5, 9, 9], [1, 1, 2, 2]], [0.5, 0.25], [0, 1], NAMES)
    assert (
        DETECTIONS[DETECTIONS.labels == 1] == DETECTIONS[[0, 2]] == DETECTIONS[[True, False, True]] == DETECTIONS[::2]
    )
    assert DETECTIONS.above(0.5) == DETECTIONS[:2]


def test_iteration_gives_one_detection_after_the_other():
    assert [detection.label for detection in DETECTIONS] == [1, 0, 1]
    assert list(Detections.empty(NAMES)) == []
    assert Detections.empty(NAMES) == DETECTIONS.above(1.0)


def test_equality_compares_values_but_not_the_image():
    copy = detections_of(DETECTIONS.boxes, DETECTIONS.scores, DETECTIONS.labels, NAMES)
    assert copy == DETECTIONS
    assert Detections(copy.boxes, copy.scores, copy.labels, NAMES, np.zeros((4, 4, 3), np.uint8)) == DETECTIONS
    assert Detections(copy.boxes + 1, copy.scores, copy.labels, NAMES) != DETECTIONS
    assert copy[:1] != DETECTIONS


def test_dicts_hold_plain_python_values():
    dicts = json.loads(json.dumps(DETECTIONS.to_dict()))
    assert dicts[1] == {"class": "cat", "label": 0, "score": 0.5, "box": [4.0, 5.0, 9.0, 9.0]}
    assert len(dicts) == 3
    assert detections_of([[0, 0, 1, 1]], [0.5], [7]).to_dict()[0]["class"] == "class 7"


def test_a_notebook_shows_an_escaped_table():
    html = DETECTIONS._repr_html_()
    assert "&lt;b&gt;dog&lt;/b&gt;</td><td>0.90</td><td>0.0, 1.0, 2.0, 3.5</td>" in html
    assert "<b>" not in html and "<img" not in html
    assert html.count("<tr>") == 4


@pytest.mark.parametrize("names", [NAMES, ()])
def test_a_notebook_shows_the_image_with_its_boxes(names):
    image = np.full((1000, 2000, 3), 128, np.uint8)
    box = [[500, 200, 1500, 800]]
    detections = Detections(np.float32(box), np.float32([0.9]), np.int32([1]), names, image)
    data = re.search(r'src="data:image/png;base64,([^"]+)"', detections._repr_html_()).group(1)
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert shown.shape == (400, 800, 3)  # reduced
    assert np.all(shown[200, 400] == 128) and np.any(shown[200, 195:206] != 128)


def test_detect_keeps_the_image():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype("uint8")
    detections = small_rsanet().detect(image, score_threshold=0.0)
    np.testing.assert_array_equal(detections.image, image)
    assert "image" not in repr(detections)
