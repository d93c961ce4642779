"""`lightdet evaluate`: the scores of weights and of .tflite files."""

import json

import pytest

from keras_lightdet import backbones
from keras_lightdet.data import load_classification, load_data, load_segmentation
from keras_lightdet.data.synthetic_scenes import draw_classification_scenes
from keras_lightdet.evaluation import (
    evaluate_classification,
    evaluate_segmentation,
    evaluate_voc,
    predict_detection,
    result_as_data,
)
from keras_lightdet.weights import save_weights


def scores_of(run, tmp_path, data_dir, *source):
    path = tmp_path / "scores" / "scores.json"
    text = run("evaluate", *source, "--data-dir", data_dir, "--output", path)
    assert f"images of {data_dir}" in text
    return json.loads(path.read_text())


def test_weights_and_file_of_a_detector(run, detector, detector_weights, detector_file, scenes, tmp_path):
    scores = scores_of(run, tmp_path, scenes, "--weights", detector_weights)
    data = load_data(scenes, "test", class_names=detector.class_names)
    expected = evaluate_voc(data, predict_detection(detector, data, 8))
    assert scores["voc07"] == json.loads(json.dumps(result_as_data(expected)))
    assert set(scores) == {"voc07", "voc", "coco"}
    of_file = scores_of(run, tmp_path, scenes, "--model", detector_file)
    assert of_file["coco"]["AP"] == pytest.approx(scores["coco"]["AP"], abs=1e-3)


def test_weights_and_file_of_a_segmenter(run, segmenter, segmenter_weights, segmenter_file, label_scenes, tmp_path):
    scores = scores_of(run, tmp_path, label_scenes, "--weights", segmenter_weights)
    expected = evaluate_segmentation(segmenter, load_segmentation(label_scenes, "val"))
    assert scores["segmentation"]["mIoU"] == pytest.approx(expected.figures()["mIoU"])
    of_file = scores_of(run, tmp_path, label_scenes, "--model", segmenter_file)
    assert of_file["segmentation"]["mIoU"] == pytest.approx(scores["segmentation"]["mIoU"], abs=5e-3)


def test_a_split_can_be_named(run, detector_file, scenes):
    assert run("evaluate", "--model", detector_file, "--data-dir", scenes, "--split", "trainval").startswith("4 images")
    assert "absent" in run("evaluate", "--model", detector_file, "--data-dir", scenes, "--split", "absent", code=1)


def test_weights_of_a_classifier(run, tmp_path):
    scenes = draw_classification_scenes(tmp_path / "classes", {"train": 1, "val": 2}, seed=1)
    data = load_classification(scenes, "val")
    model = backbones.SNet(variant="snet49", num_classes=len(data.class_names))
    model.class_names = data.class_names
    weights = save_weights(model, tmp_path / "a.weights.h5")
    scores = scores_of(run, tmp_path, scenes, "--weights", weights)
    expected = evaluate_classification(model, data)
    assert scores["classification"]["accuracy"] == pytest.approx(expected.figures()["accuracy"])
