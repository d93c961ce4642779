"""The .tflite of an EfficientDet: weighted fusion, heads shared by the levels, soft suppression."""

import dataclasses

import keras
import numpy as np
import pytest
from noise_images import draw_image
from small_detector import small_efficientdet

import keras_lightdet
from keras_lightdet.boxes import SelectSpec
from keras_lightdet.deploy import TFLiteDetector, export_detection
from keras_lightdet.deploy.mediapipe_check import compare_detections, detect_with_mediapipe, in_whole_pixels
from keras_lightdet.images import resize_image

SELECT = SelectSpec(score_threshold=0.3, iou_threshold=0.5, max_detections=20, soft="gaussian")


def liven(detector, pictures):
    """Gives norms that have seen the images, and predictions that differ clearly from place to place."""
    batch = np.stack([resize_image(image, detector.input_size) for image in pictures]).astype("float32")
    detector(batch, training=True)  # the averages start at the first batch
    raw = detector(batch)
    for part, key, wanted in (("class", "class_logits", 1.5), ("box", "box_deltas", 0.5)):
        layer = detector.network.get_layer(f"predict_{part}")
        layer.pointwise_kernel.assign(layer.pointwise_kernel * (wanted / float(np.std(raw[key]))))
        layer.bias.assign(np.full(layer.bias.shape, -1.0 if part == "class" else 0.0))
    return detector


def test_float_file_of_built_ins_equals_keras(tmp_path):
    pictures = [draw_image(seed) for seed in range(4)]
    keras.utils.set_random_seed(0)
    model = liven(small_efficientdet(fusion="bifpn_fast", select=SELECT), pictures)
    report = export_detection(model, tmp_path / "a.tflite", calibration=pictures)  # refuses all but built-ins
    assert report.keras_agreement == 1.0
    detector, total, labels = TFLiteDetector(tmp_path / "a.tflite"), 0, set()
    for image in pictures:
        wanted, found = (each.detect(image, score_threshold=0.0) for each in (model, detector))
        np.testing.assert_array_equal(found.labels, wanted.labels)
        np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-4)
        np.testing.assert_allclose(found.boxes, wanted.boxes, atol=2e-2)
        total += len(found)
        labels |= set(found.labels)
    assert total > 20 and len(labels) > 1, "there must be detections for this to mean anything"


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["d0", "lite0"])
def test_mediapipe_opens_the_published_sizes_and_answers_alike(variant, tmp_path):
    pytest.importorskip("mediapipe")
    pictures = [draw_image(seed) for seed in range(3)]
    keras.utils.set_random_seed(0)
    select = dataclasses.replace(SELECT, max_detections=100)
    model = liven(keras_lightdet.EfficientDet(3, variant=variant, select=select), pictures)
    path = tmp_path / "a.tflite"
    report = export_detection(model, path, calibration=pictures)
    assert max(report.raw_errors.values()) < 1e-3
    assert report.keras_agreement > 0.98
    answers = detect_with_mediapipe(path, pictures[:2])
    own = TFLiteDetector(path).detect(pictures[:2], score_threshold=0.0)
    for expected, got in zip(own, answers, strict=True):
        sure = expected.above(float(expected.scores[-1]) + 1e-3)
        found = compare_detections(in_whole_pixels(sure), got)
        assert found.compared > 5 and found.missing == 0
        assert found.max_distance <= 1
