"""The table of classes, JSON data and the plot."""

import json

import numpy as np
import pytest
from evaluation_cases import detection_data, detections_of, record
from PIL import Image

from keras_lightdet.evaluation import evaluate_coco, evaluate_voc
from keras_lightdet.evaluation.report import class_table, plot_precision_recall, result_as_data


@pytest.fixture(scope="module")
def case():
    boxes = [[0, 0, 40, 40], [100, 100, 140, 140]]
    data = detection_data([record(boxes, [0, 0], ignore=[False, False])], ("cat", "zebra crossing"))
    return data, [detections_of([boxes[0], [200, 200, 240, 240]], [0.9, 0.8], [0, 0])]


def test_the_table_shows_figures_in_percent(case):
    text = class_table(evaluate_voc(*case, metric="area"))
    lines = text.splitlines()
    assert lines[0].split() == ["class", "AP", "objects", "difficult", "detections"]
    assert lines[2].split() == ["cat", "50.0", "2", "0", "2"]
    assert lines[3].split() == ["zebra", "crossing", "-", "0", "0", "0"]
    assert lines[-1] == "mAP 50.0"
    assert len({len(line) for line in (lines[0], lines[2], lines[3])}) == 1, "columns are aligned"


def test_the_coco_table_ends_with_the_twelve_figures(case):
    result = evaluate_coco(*case)
    text = class_table(result)
    assert text.splitlines()[2].split()[:2] == ["cat", f"{100 * result.AP:.1f}"]
    assert "AP50 50.5" in text.splitlines()[-1]  # 51 of pycocotools' 101 recalls are reached
    assert "APsmall -" in text.splitlines()[-1]


def test_data_are_json_with_none_for_nan(case):
    for result in (evaluate_voc(*case), evaluate_coco(*case)):
        data = json.loads(json.dumps(result_as_data(result), allow_nan=False))
        assert data["classes"][1]["AP"] is None
        assert data["classes"][0]["objects"] == 2
        assert data["classes"][0]["AP"] == pytest.approx(result.classes[0].AP)


def test_the_plot_shows_the_curves(case, tmp_path):
    path = tmp_path / "curves.png"
    for result in (evaluate_voc(*case), evaluate_coco(*case)):
        plot_precision_recall(result, path)
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        first_color = np.abs(pixels.astype(int) - [31, 119, 180]).sum(axis=2) < 30
        assert first_color.sum() > 200
    empty = evaluate_voc(detection_data([], ("cat",)), [])
    plot_precision_recall(empty, path)
    assert path.stat().st_size > 1000


def test_the_plot_of_many_classes_shows_the_best_and_the_worst(tmp_path):
    boxes = [[20 * i, 0, 20 * i + 10, 10] for i in range(15)]
    data = detection_data([record(boxes, range(15))], [f"class {i}" for i in range(15)])
    result = evaluate_voc(data, [detections_of(boxes[:8], [0.9] * 8, range(8))])
    plot_precision_recall(result, tmp_path / "many.png")
    assert (tmp_path / "many.png").stat().st_size > 1000
    assert class_table(result).count("class ") == 15 + 1
