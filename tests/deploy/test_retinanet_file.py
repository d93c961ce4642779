"""The float32 .tflite of a RetinaNet on the mobile SpineNet, in the runtime that phones have."""

import keras
import numpy as np
import pytest
from noise_images import draw_image

import keras_lightdet
from keras_lightdet.boxes import SelectSpec
from keras_lightdet.deploy import TFLiteDetector, export_detection
from keras_lightdet.deploy.mediapipe_check import compare_detections, detect_with_mediapipe, in_whole_pixels
from keras_lightdet.images import resize_image

SELECT = SelectSpec(score_threshold=0.3, iou_threshold=0.5, max_detections=20)


def build_lively(pictures):
    """Random weights, norms that have seen the images, and predictions that differ clearly from place to place."""
    keras.utils.set_random_seed(0)
    detector = keras_lightdet.RetinaNet(3, variant="mobile_spinenet49", select=SELECT)
    batch = np.stack([resize_image(image, detector.input_size) for image in pictures]).astype("float32")
    detector(batch, training=True)  # the averages start at the first batch
    raw = detector(batch)
    for part, key, wanted in (("class", "class_logits", 0.5), ("box", "box_deltas", 0.5)):
        layer = detector.network.get_layer(f"predict_{part}")
        layer.pointwise_kernel.assign(layer.pointwise_kernel * (wanted / float(np.std(raw[key]))))
        layer.bias.assign(np.full(layer.bias.shape, -1.0 if part == "class" else 0.0))
    return detector


@pytest.mark.slow
def test_mediapipe_opens_the_file_and_answers_alike(tmp_path):
    pytest.importorskip("mediapipe")
    pictures = [draw_image(seed) for seed in range(4)]
    model = build_lively(pictures)
    path = tmp_path / "a.tflite"
    assert export_detection(model, path, calibration=pictures).keras_agreement == 1.0
    own = TFLiteDetector(path).detect(pictures[:3], score_threshold=0.0)
    assert sum(map(len, own)) > 10
    for image, found in zip(pictures, own, strict=False):
        wanted = model.detect(image, score_threshold=0.0)
        np.testing.assert_array_equal(found.labels, wanted.labels)
        np.testing.assert_allclose(found.boxes, wanted.boxes, atol=2e-2)
    for expected, got in zip(own, detect_with_mediapipe(path, pictures[:3]), strict=True):
        sure = expected.above(float(expected.scores[-1]) + 1e-3)
        found = compare_detections(in_whole_pixels(sure), got)
        assert found.compared > 5
        assert found.missing == 0
        assert found.max_distance <= 1
