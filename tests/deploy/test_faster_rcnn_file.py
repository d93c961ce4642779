"""The .tflite of a Faster R-CNN, whose regions come from four maps and have a box for each class."""

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
    """Random weights, the predictions scaled up so that places and classes differ clearly."""
    keras.utils.set_random_seed(4)
    detector = small_faster_rcnn(select=SELECT)
    detector.proposals = dataclasses.replace(detector.proposals, test=ProposalSpec(100, 30))
    raw = detector(resize_image(draw_image(0), detector.input_size)[None].astype("float32"))
    for name, output, wanted in (("regions_class", "class_logits", 2.0), ("regions_box_of_class", "box_deltas", 1.0)):
        layer = detector.roi_head.get_layer("region_network").get_layer(name)
        values = np.array(raw[output]).reshape(-1, layer.units)
        scale = wanted / np.std(values - values.mean(0))
        layer.kernel.assign(layer.kernel * scale)
        layer.bias.assign(-scale * values.mean(0))
    for name in ("rpn_object", "rpn_box"):
        layer = detector.rpn.get_layer(name)
        layer.kernel.assign(layer.kernel * 30.0)
    return detector


def test_float_file_of_built_ins_equals_keras(model, tmp_path):
    pictures = [draw_image(seed) for seed in range(4)]
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
