"""The .tflite of an EfficientDet: weighted fusion, heads shared by the levels, soft NMS."""

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

SELECT = SelectSpec(score_threshold=0.3, iou_threshold=0.5, max_detections=20, soft_nms="gaussian")


def spread_outputs(detector, images):
    """Updates the batch norm statistics, and scales the predictions so that positions differ clearly."""
    batch = np.stack([resize_image(image, detector.input_size) for image in images]).astype("float32")
    detector(batch, training=True)  # the averages start at the first batch
    raw = detector(batch)
    for head, key, deviation in (("class", "class_logits", 1.5), ("box", "box_deltas", 0.5)):
        layer = detector.network.get_layer(f"predict_{head}")
        layer.pointwise_kernel.assign(layer.pointwise_kernel * (deviation / float(np.std(raw[key]))))
        layer.bias.assign(np.full(layer.bias.shape, -1.0 if head == "class" else 0.0))
    return detector


def test_float_file_of_built_ins_equals_keras(tmp_path):
    images = [draw_image(seed) for seed in range(4)]
    keras.utils.set_random_seed(0)
    model = spread_outputs(small_efficientdet(fusion="bifpn_fast", select=SELECT), images)
    report = export_detection(model, tmp_path / "a.tflite", calibration=images)  # rejects all but built-ins
    assert report.keras_agreement == 1.0
    detector, total, labels = TFLiteDetector(tmp_path / "a.tflite"), 0, set()
    for image in images:
        expected, detections = (each.detect(image, score_threshold=0.0) for each in (model, detector))
        np.testing.assert_array_equal(detections.labels, expected.labels)
        np.testing.assert_allclose(detections.scores, expected.scores, atol=1e-4)
        np.testing.assert_allclose(detections.boxes, expected.boxes, atol=2e-2)
        total += len(detections)
        labels |= set(detections.labels)
    assert total > 20 and len(labels) > 1, "the test needs detections of several classes"


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["d0", "lite0"])
def test_mediapipe_agrees_on_the_published_sizes(variant, tmp_path):
    pytest.importorskip("mediapipe")
    images = [draw_image(seed) for seed in range(3)]
    keras.utils.set_random_seed(0)
    select = dataclasses.replace(SELECT, max_detections=100)
    model = spread_outputs(keras_lightdet.EfficientDet(3, variant=variant, select=select), images)
    path = tmp_path / "a.tflite"
    report = export_detection(model, path, calibration=images)
    assert max(report.raw_errors.values()) < 1e-3
    assert report.keras_agreement > 0.98
    mediapipe_results = detect_with_mediapipe(path, images[:2])
    own = TFLiteDetector(path).detect(images[:2], score_threshold=0.0)
    for expected, detections in zip(own, mediapipe_results, strict=True):
        sure = expected.above(float(expected.scores[-1]) + 1e-3)
        difference = compare_detections(in_whole_pixels(sure), detections)
        assert difference.compared > 5 and difference.missing == 0
        assert difference.max_distance <= 1
