"""The .tflite of a Faster R-CNN, which pools regions from four levels and predicts a box for each class."""

import dataclasses

import keras
import numpy as np
import pytest
from noise_images import draw_image
from small_detector import small_faster_rcnn

from keras_lightdet.boxes import ProposalSpec, SelectSpec
from keras_lightdet.deploy import TFLiteDetector, export_detection
from keras_lightdet.images import resize_image

SELECT = SelectSpec(score_threshold=0.3, iou_threshold=0.5, max_detections=20)


@pytest.fixture(scope="module")
def model():
    """Random weights, the predictions scaled up so that positions and classes differ clearly."""
    keras.utils.set_random_seed(4)
    detector = small_faster_rcnn(select=SELECT)
    detector.proposal_objective = dataclasses.replace(detector.proposal_objective, test=ProposalSpec(100, 30))
    raw = detector(resize_image(draw_image(0), detector.input_size)[None].astype("float32"))
    for name, output, deviation in (
        ("regions_class", "class_logits", 2.0),
        ("regions_box_of_class", "box_deltas", 1.0),
    ):
        layer = detector.region_network.get_layer(name)
        values = np.array(raw[output]).reshape(-1, layer.units)
        scale = deviation / np.std(values - values.mean(0))
        layer.kernel.assign(layer.kernel * scale)
        layer.bias.assign(-scale * values.mean(0))
    for name in ("rpn_object", "rpn_box"):
        layer = detector.rpn.get_layer(name)
        layer.kernel.assign(layer.kernel * 30.0)
    return detector


def test_float_file_of_built_ins_equals_keras(model, tmp_path):
    images = [draw_image(seed) for seed in range(4)]
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
