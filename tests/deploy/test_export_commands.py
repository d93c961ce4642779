"""The export commands on weights of every builder, as a recipe calls them at its end."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from small_detector import SIDE, small_efficientdet, small_rsanet, small_thundernet
from small_segmenter import small_bisenet

import keras_lightdet
from keras_lightdet.data import draw_scenes, draw_segmentation_scenes, load_data, load_segmentation
from keras_lightdet.errors import WeightsError
from keras_lightdet.weights import save_weights

EXPORT = Path(__file__).parents[2] / "export"


@pytest.fixture
def run_command(monkeypatch, capsys):
    def run(name, *flags, fault=""):
        monkeypatch.syspath_prepend(str(EXPORT))
        monkeypatch.setattr(sys, "argv", [name, *map(str, flags)])
        try:
            runpy.run_path(str(EXPORT / f"{name}.py"), run_name="__main__")
        except SystemExit as end:
            told = end.code or ""
            assert told.startswith(fault) and bool(told) == bool(fault), told
        return capsys.readouterr().out

    return run


def retinanet(**options):
    return keras_lightdet.RetinaNet(variant="mobile_spinenet49xs", input_shape=(SIDE, SIDE, 3), **options)


@pytest.mark.parametrize("build", [small_rsanet, small_thundernet, small_efficientdet, retinanet])
def test_weights_of_a_detector_are_loaded_by_its_builder(build, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(EXPORT))
    files = runpy.run_path(str(EXPORT / "detector_files.py"))
    model = build(class_names=("disc", "square", "star"))
    loaded = files["load_detector"](save_weights(model, tmp_path / "a.weights.h5"))
    assert type(loaded) is type(model) and loaded.class_names == model.class_names
    image = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3)).astype("float32")
    for name, value in model(image).items():
        np.testing.assert_array_equal(loaded(image)[name], value)


def test_weights_of_a_classifier_are_refused_by_name(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(EXPORT))
    files = runpy.run_path(str(EXPORT / "detector_files.py"))
    classifier = keras_lightdet.backbones.SNet(variant="snet49", num_classes=3)
    with pytest.raises(WeightsError, match="(?s)EfficientDet.*SNet"):
        files["load_detector"](save_weights(classifier, tmp_path / "a.weights.h5"))


def test_a_file_is_written_checked_and_timed(run_command, tmp_path):
    scenes = draw_scenes(tmp_path / "scenes", {"trainval": 4, "test": 2}, seed=1)
    model = small_efficientdet(class_names=load_data(scenes, "trainval").class_names)
    weights, file = save_weights(model, tmp_path / "a.weights.h5"), tmp_path / "a.tflite"
    run_command("export_detection", "--weights", weights, "--quantize", "none", "--data-dir", scenes, "--output", file)
    told = run_command("check_tflite", file, "--data-dir", scenes, "--weights", weights, "--no-mediapipe")
    (row,) = (line for line in told.splitlines() if line.startswith("COCO AP50"))
    own, keras_own = row.split()[-2:]
    assert own == keras_own
    assert str(file) in run_command("benchmark_tflite", file, "--rounds", 2)


def test_a_segmenters_masks_in_mediapipe_are_compared_with_the_file_and_with_keras(run_command, tmp_path):
    pytest.importorskip("mediapipe")
    scenes = draw_segmentation_scenes(tmp_path / "scenes", {"train": 3, "val": 2}, seed=1)
    names = load_segmentation(scenes, "train").class_names
    weights, file = save_weights(small_bisenet(names), tmp_path / "a.weights.h5"), tmp_path / "a.tflite"
    run_command("export_detection", "--weights", weights, "--quantize", "none", "--data-dir", scenes, "--output", file)
    check = ("check_tflite", file, "--data-dir", scenes, "--max-drop", 100)
    told = run_command(*check, "--weights", weights)
    same = "MediaPipe, images at the network's size: 100.00% of the pixels have the class of"
    assert f"{same} the file\n{same} Keras\n" in told
    others = save_weights(small_bisenet(names), tmp_path / "b.weights.h5")
    run_command(*check, "--weights", others, fault="FAULT: MediaPipe gives other classes than Keras")
