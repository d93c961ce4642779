"""`lightdet export`, `check` and `bench` on weights of every builder."""

import keras
import numpy as np
import pytest
from small_detector import SIDE, small_efficientdet, small_rsanet, small_thundernet
from small_segmenter import small_bisenet

import keras_lightdet
from keras_lightdet.cli.loading import load_weights
from keras_lightdet.deploy import flatbuffer
from keras_lightdet.deploy.runtime import TFLiteGraph
from keras_lightdet.errors import WeightsError
from keras_lightdet.weights import save_weights


def retinanet(**options):
    return keras_lightdet.RetinaNet(variant="mobile_spinenet49xs", input_shape=(SIDE, SIDE, 3), **options)


@pytest.mark.parametrize("build", [small_rsanet, small_thundernet, small_efficientdet, retinanet])
def test_weights_of_a_detector_are_loaded_by_its_builder(build, tmp_path):
    model = build(class_names=("disc", "square", "star"))
    loaded = load_weights(save_weights(model, tmp_path / "a.weights.h5"))
    assert type(loaded) is type(model) and loaded.class_names == model.class_names
    image = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3)).astype("float32")
    for name, value in model(image).items():
        np.testing.assert_array_equal(loaded(image)[name], value)


def test_weights_of_a_classifier_are_rejected_by_name(tmp_path):
    classifier = keras_lightdet.backbones.SNet(variant="snet49", num_classes=3)
    with pytest.raises(WeightsError, match="(?s)EfficientDet.*SNet"):
        load_weights(save_weights(classifier, tmp_path / "a.weights.h5"))


def test_a_file_is_written_checked_and_timed(run, scenes, detector_weights, detector_file):
    text = run("check", detector_file, "--data-dir", scenes, "--weights", detector_weights, "--no-mediapipe")
    (row,) = (line for line in text.splitlines() if line.startswith("COCO AP50"))
    own, keras_own = row.split()[-2:]
    assert own == keras_own
    text = run("bench", detector_file, "--rounds", 2, "--per-op")
    assert str(detector_file) in text and "CONV_2D" in text


def test_a_check_without_data_lists_ops_and_classes(run, detector, detector_file):
    text = run("check", detector_file)
    assert "CONV_2D" in text and f"classes: {', '.join(detector.class_names)}" in text


def test_thresholds_and_forms_are_passed_on(run, scenes, detector_weights, tmp_path):
    flags = (
        "--weights",
        detector_weights,
        "--data-dir",
        scenes,
        "--quantize",
        "none",
        "--output",
        tmp_path / "a.tflite",
    )
    assert "detections compared: " in run("export", *flags, "--score-threshold", 0.3, "--max-detections", 7)
    assert TFLiteGraph(flatbuffer.read_content(tmp_path / "a.tflite")).output_names == (
        "boxes",
        "count",
        "labels",
        "scores",
    )
    run("export", *flags, "--postprocess", "none")
    outputs = TFLiteGraph(flatbuffer.read_content(tmp_path / "a.tflite")).output_names
    assert set(outputs) == {"box_deltas", "objectness", "class_logits"}


def test_a_worse_file_ends_with_1(run, scenes, detector, detector_file, tmp_path):
    keras.utils.set_random_seed(9)
    other = small_rsanet(class_names=detector.class_names)
    weights = save_weights(other, tmp_path / "b.weights.h5")
    text = run(
        "check", detector_file, "--data-dir", scenes, "--weights", weights, "--max-drop", -100, "--no-mediapipe", code=1
    )
    assert text.startswith("FAULT: VOC07 mAP is ")


def test_a_segmenters_masks_in_mediapipe_are_compared_with_the_file_and_with_keras(
    run, label_scenes, segmenter, segmenter_weights, segmenter_file, tmp_path
):
    pytest.importorskip("mediapipe")
    check = ("check", segmenter_file, "--data-dir", label_scenes, "--max-drop", 100)
    text = run(*check, "--weights", segmenter_weights)
    same = "MediaPipe, images at the network's size: 100.00% of the pixels have the class of"
    assert f"{same} the file\n{same} Keras\n" in text
    others = save_weights(small_bisenet(segmenter.class_names), tmp_path / "b.weights.h5")
    assert run(*check, "--weights", others, code=1).startswith("FAULT: MediaPipe gives other classes than Keras")


def test_weights_of_another_kind_are_rejected(run, scenes, detector_file, segmenter_weights):
    text = run("check", detector_file, "--data-dir", scenes, "--weights", segmenter_weights, code=1)
    assert "weights of a detector" in text
