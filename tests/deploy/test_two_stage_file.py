"""A two-stage detector as one file: the same detections as Keras, built-ins only, verified in MediaPipe."""

import dataclasses

import keras
import pytest
from noise_images import draw_image
from small_detector import small_faster_rcnn, small_light_head, small_thundernet
from spread_predictions import spread_predictions
from tflite_ops import quantized_ops

from keras_lightdet.boxes import ProposalSpec, SelectSpec
from keras_lightdet.deploy import TFLiteDetector, export_detection, flatbuffer, verify
from keras_lightdet.deploy.mediapipe_check import compare_detections, detect_with_mediapipe, in_whole_pixels

# Ops that must not be int8: box arithmetic and selection.
BOX_OPS = {"NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5", "TOPK_V2", "EXP", "GATHER", "FLOOR_DIV"}


@pytest.fixture(scope="module")
def images():
    return [draw_image(seed) for seed in range(8)]


@pytest.fixture(scope="module")
def detector(images):
    """Random weights whose predictions differ clearly between anchors and between regions."""
    keras.utils.set_random_seed(3)
    model = small_thundernet(select=SelectSpec(score_threshold=0.3, iou_threshold=0.5, max_detections=20))
    spread_predictions(model, images)
    return model


@pytest.mark.parametrize("soft_nms", [None, "gaussian"])
def test_float_file_gives_the_detections_of_keras(detector, images, tmp_path, soft_nms):
    select = dataclasses.replace(detector.select, soft_nms=soft_nms)
    report = export_detection(detector, tmp_path / "m.tflite", calibration=images, select=select)
    assert set(report.ops) <= verify.ALLOWED_OPS
    assert max(report.raw_errors.values()) < 1e-4
    file = TFLiteDetector(tmp_path / "m.tflite")
    detector.select, default_select = select, detector.select
    try:
        detector.predict_function = None
        expected = detector.detect(images, score_threshold=0.0)
    finally:
        detector.select, detector.predict_function = default_select, None
    detections = file.detect(images, score_threshold=0.0)
    assert sum(map(len, expected)) > 40
    assert verify.agreement(expected, detections, min_iou=0.99, score_tolerance=1e-3) > 0.97


def test_int8_file_keeps_boxes_in_float_and_the_second_stage_in_8_bits(detector, images, tmp_path):
    export_detection(detector, tmp_path / "m.tflite", quantize="int8", calibration=images)
    content = flatbuffer.read_content(tmp_path / "m.tflite")
    quantized = quantized_ops(content)
    assert {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"} <= quantized
    assert not BOX_OPS & quantized and BOX_OPS & set(verify.list_ops(content))
    graph, types = flatbuffer.unpack(content).subgraphs[0], flatbuffer.load_schema().TensorType
    (image,) = graph.inputs
    assert graph.tensors[image].type == types.UINT8
    detections = TFLiteDetector(tmp_path / "m.tflite").detect(images, score_threshold=0.0)
    expected = detector.detect(images, score_threshold=0.0)
    # The regions of a random network are many and nearly equal: int8 often keeps others of them.
    assert verify.agreement(expected, detections, min_iou=0.5, score_tolerance=0.2) > 0.4


@pytest.mark.slow
@pytest.mark.parametrize("build", [small_light_head, small_faster_rcnn])
def test_int8_files_of_the_other_builders_agree_in_mediapipe(build, images, tmp_path):
    pytest.importorskip("mediapipe")
    keras.utils.set_random_seed(3)
    model = build(select=SelectSpec(score_threshold=0.3, iou_threshold=0.5, max_detections=20))
    model.proposal_objective = dataclasses.replace(model.proposal_objective, test=ProposalSpec(100, 30))
    spread_predictions(model, images)
    path = tmp_path / "m.tflite"
    report = export_detection(model, path, quantize="int8", calibration=images)
    # The second stage is compared on Keras' regions: its errors are those of quantization alone.
    assert max(report.raw_errors["class_logits"], report.raw_errors["box_deltas"]) < 0.05
    quantized = quantized_ops(flatbuffer.read_content(path))
    assert {"CONV_2D", "FULLY_CONNECTED"} <= quantized and not BOX_OPS & quantized
    compared = missing = 0
    mediapipe_results, own = (
        detect_with_mediapipe(path, images),
        TFLiteDetector(path).detect(images, score_threshold=0.0),
    )
    for expected, detections in zip(own, mediapipe_results, strict=True):
        difference = compare_detections(in_whole_pixels(expected), detections)
        compared, missing = compared + difference.compared, missing + difference.missing
    # Equal scores are frequent in int8: at the cut each runtime may keep different ones.
    assert compared > 40 and missing < 0.1 * compared


def test_mediapipe_gives_the_same_labels_and_boxes(detector, images, tmp_path):
    pytest.importorskip("mediapipe")
    export_detection(detector, tmp_path / "m.tflite", calibration=images)
    mediapipe_results = detect_with_mediapipe(tmp_path / "m.tflite", images[:3])
    own = TFLiteDetector(tmp_path / "m.tflite").detect(images[:3], score_threshold=0.0)
    for expected, detections in zip(own, mediapipe_results, strict=True):
        difference = compare_detections(in_whole_pixels(expected), detections)
        assert difference.compared > 5 and difference.missing == 0 and difference.max_distance <= 1
