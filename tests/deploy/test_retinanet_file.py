"""The float32 .tflite of a RetinaNet with a mobile SpineNet, verified in MediaPipe."""

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


def build_with_spread_outputs(images):
    """Random weights, updated batch norm statistics, and predictions that differ clearly between positions."""
    keras.utils.set_random_seed(0)
    detector = keras_lightdet.RetinaNet(3, variant="mobile_spinenet49", select=SELECT)
    batch = np.stack([resize_image(image, detector.input_size) for image in images]).astype("float32")
    detector(batch, training=True)  # the averages start at the first batch
    raw = detector(batch)
    for head, key, deviation in (("class", "class_logits", 0.5), ("box", "box_deltas", 0.5)):
        layer = detector.network.get_layer(f"predict_{head}")
        layer.pointwise_kernel.assign(layer.pointwise_kernel * (deviation / float(np.std(raw[key]))))
        layer.bias.assign(np.full(layer.bias.shape, -1.0 if head == "class" else 0.0))
    return detector


@pytest.mark.slow
def test_mediapipe_agrees(tmp_path):
    pytest.importorskip("mediapipe")
    images = [draw_image(seed) for seed in range(4)]
    model = build_with_spread_outputs(images)
    path = tmp_path / "a.tflite"
    assert export_detection(model, path, calibration=images).keras_agreement == 1.0
    own = TFLiteDetector(path).detect(images[:3], score_threshold=0.0)
    assert sum(map(len, own)) > 10
    for image, detections in zip(images, own, strict=False):
        expected = model.detect(image, score_threshold=0.0)
        np.testing.assert_array_equal(detections.labels, expected.labels)
        np.testing.assert_allclose(detections.boxes, expected.boxes, atol=2e-2)
    for expected, detections in zip(own, detect_with_mediapipe(path, images[:3]), strict=True):
        sure = expected.above(float(expected.scores[-1]) + 1e-3)
        difference = compare_detections(in_whole_pixels(sure), detections)
        assert difference.compared > 5
        assert difference.missing == 0
        assert difference.max_distance <= 1
