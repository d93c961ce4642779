"""A two-stage detector as one file: the same answers as Keras, in built-ins alone, and in MediaPipe."""

import dataclasses

import keras
import numpy as np
import pytest
from noise_pictures import draw_picture
from small_detector import small_thundernet

from keras_lightdet.boxes import SelectSpec
from keras_lightdet.deploy import TFLiteDetector, export_tflite, flatbuffer, verify
from keras_lightdet.deploy.mediapipe_check import compare_detections, detect_with_mediapipe, in_whole_pixels

# What must not be in 8 bits: the arithmetic of boxes and their choice.
BOX_OPS = {"NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5", "TOPK_V2", "EXP", "GATHER", "FLOOR_DIV"}


@pytest.fixture(scope="module")
def pictures():
    return [draw_picture(seed) for seed in range(8)]


@pytest.fixture(scope="module")
def detector(pictures):
    """Random weights whose predictions differ clearly from anchor to anchor and from region to region."""
    keras.utils.set_random_seed(3)
    model = small_thundernet(select=SelectSpec(score_threshold=0.3, iou_threshold=0.5, max_detections=20))
    images = np.stack(pictures).astype("float32")
    for _ in range(60):
        model.rpn(images, training=True)  # batch norm's averages
    raw = model.rpn(images)
    for name, output in (("object", "objectness"), ("box", "rpn_deltas")):
        kernel = model.rpn.get_layer(f"rpn_{name}").kernel
        kernel.assign(kernel * (2.0 if name == "object" else 0.3) / float(np.std(raw[output])))
    network = model.roi_head.get_layer("region_network")
    raw = model(images)
    for name, output, spread in (("class", "class_logits", 3.0), ("box", "box_deltas", 1.0)):
        kernel = network.get_layer(f"regions_{name}").kernel
        kernel.assign(kernel * spread / float(np.std(raw[output])))
    return model


@pytest.mark.parametrize("soft", [None, "gaussian"])
def test_float_file_answers_as_keras(detector, pictures, tmp_path, soft):
    select = dataclasses.replace(detector.select, soft=soft)
    report = export_tflite(detector, tmp_path / "m.tflite", calibration=pictures, select=select)
    assert set(report.ops) <= verify.ALLOWED_OPS
    assert max(report.raw_errors.values()) < 1e-4
    file = TFLiteDetector(tmp_path / "m.tflite")
    detector.select, before = select, detector.select
    try:
        detector.predict_function = None
        expected = detector.detect(pictures, score_threshold=0.0)
    finally:
        detector.select, detector.predict_function = before, None
    found = file.detect(pictures, score_threshold=0.0)
    assert sum(map(len, expected)) > 40
    assert verify.agreement(expected, found, min_iou=0.99, score_tolerance=1e-3) > 0.97


def test_int8_file_keeps_boxes_in_float_and_the_second_stage_in_8_bits(detector, pictures, tmp_path):
    export_tflite(detector, tmp_path / "m.tflite", quantize="int8", calibration=pictures)
    content = flatbuffer.read_content(tmp_path / "m.tflite")
    quantized = verify.quantized_ops(content)
    assert {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"} <= quantized
    assert not BOX_OPS & quantized and BOX_OPS & set(verify.list_ops(content))
    graph, types = flatbuffer.unpack(content).subgraphs[0], flatbuffer.load_schema().TensorType
    (image,) = graph.inputs
    assert graph.tensors[image].type == types.UINT8
    found = TFLiteDetector(tmp_path / "m.tflite").detect(pictures, score_threshold=0.0)
    expected = detector.detect(pictures, score_threshold=0.0)
    # A random network's regions are many and nearly equal; another one survives in 8 bits as often as not.
    assert verify.agreement(expected, found, min_iou=0.5, score_tolerance=0.2) > 0.4


def test_mediapipe_gives_the_same_labels_and_boxes(detector, pictures, tmp_path):
    pytest.importorskip("mediapipe")
    export_tflite(detector, tmp_path / "m.tflite", calibration=pictures)
    answers = detect_with_mediapipe(tmp_path / "m.tflite", pictures[:3])
    own = TFLiteDetector(tmp_path / "m.tflite").detect(pictures[:3], score_threshold=0.0)
    for expected, got in zip(own, answers, strict=True):
        found = compare_detections(in_whole_pixels(expected), got)
        assert found.compared > 5 and found.missing == 0 and found.max_distance <= 1
