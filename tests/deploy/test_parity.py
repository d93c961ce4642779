"""The exported file gives the same detections as the Keras model and as greedy NMS in NumPy."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from noise_images import draw_image
from reference_loops import iou, nms_by_loops

from keras_lightdet.boxes import SelectSpec, select_detections
from keras_lightdet.deploy import TFLiteDetector
from keras_lightdet.deploy.postprocess import build_postprocess
from keras_lightdet.deploy.runtime import TFLiteGraph
from keras_lightdet.deploy.tflite_convert import convert_function
from keras_lightdet.errors import DataError
from keras_lightdet.images import resize_image


def decode(model, image):
    """Boxes `[N, 4]` and scores `[N, K]` of an image of the network's size."""
    return tuple(np.array(x)[0] for x in model.decode(model(image[None].astype(np.float32))))


@pytest.mark.parametrize("form", ["builtin", "custom_op"])
def test_float_file_equals_nms_in_loops(model, exported, images, form):
    detector = TFLiteDetector(exported("none", form)[0])
    total = 0
    for image in images:
        expected = nms_by_loops(*decode(model, image), model.select)
        detections = detector.detect(image, score_threshold=0.0)
        np.testing.assert_array_equal(detections.labels, expected[:, 5])
        np.testing.assert_allclose(detections.scores, expected[:, 4], atol=1e-4)
        np.testing.assert_allclose(detections.boxes, expected[:, :4], atol=1e-2)
        total += len(detections)
    assert total > 20, "the test needs detections"


@pytest.mark.parametrize("form", ["builtin", "custom_op"])
def test_nms_gets_only_the_best_pairs(model, images, form):
    few = dataclasses.replace(model.select, pre_nms_top_k=7)
    raw = model(images[0][None].astype(np.float32))
    boxes, scores = (np.array(x)[0] for x in model.decode(raw))
    scores[scores < np.sort(scores, axis=None)[-7]] = 0
    outputs = build_postprocess(model, form, few)(raw)
    expected = nms_by_loops(boxes, scores, few)
    count = int(outputs["count"][0])
    assert count == len(expected) < 7
    np.testing.assert_array_equal(outputs["labels"][0, :count], expected[:, 5])
    np.testing.assert_allclose(outputs["scores"][0, :count], expected[:, 4], rtol=1e-6)


def test_ties_are_broken_alike_by_the_file_and_keras():
    """An int8 file has only 256 scores: which of equal ones is kept must not depend on the runtime."""
    random = np.random.default_rng(0)
    low = random.uniform(0, 60, (1, 800, 2))
    tied = {
        "boxes": np.concatenate([low, low + random.uniform(5, 40, low.shape)], axis=-1).astype("float32"),
        "scores": random.choice(np.float32([0.25, 0.5, 0.75]), (1, 800, 3), p=[0.97, 0.02, 0.01]),
    }

    def select(inputs):
        selected = select_detections(inputs["boxes"], inputs["scores"], SelectSpec(pre_nms_top_k=500))
        return {name: tf.cast(value, tf.float32) for name, value in selected.items()}

    graph = TFLiteGraph(convert_function(select, {name: value.shape for name, value in tied.items()}))
    expected, outputs = select(tied), graph.run(tied)
    assert outputs["count"][0] > len(np.unique(outputs["scores"])) > 1, "the test needs ties"
    for name, value in expected.items():
        np.testing.assert_array_equal(outputs[name], value)


def test_boxes_are_in_pixels_of_a_non_square_image(model, exported):
    image = draw_image(77, size=(150, 90))
    expected = nms_by_loops(*decode(model, resize_image(image, model.input_size)), model.select)
    detections = TFLiteDetector(exported("none")[0]).detect(image, score_threshold=0.0)
    scale = np.array([90, 150, 90, 150]) / model.input_size[0]
    np.testing.assert_allclose(detections.boxes, expected[:, :4] * scale, atol=2e-2)
    np.testing.assert_allclose(detections.scores, expected[:, 4], atol=1e-4)
    assert detections.class_names == model.class_names


def test_int8_detections_are_boxes_of_keras(model, exported, images):
    """Compares with all decoded boxes: which of many similar scores are kept says nothing about precision."""
    detector, num_close, total = TFLiteDetector(exported("int8")[0]), 0, 0
    for image in images:
        boxes, scores = decode(model, image)
        detections = detector.detect(image, score_threshold=0.0)
        for box, score, label in zip(detections.boxes, detections.scores, detections.labels, strict=True):
            overlapping = [k for k in range(len(boxes)) if iou(box, boxes[k]) > 0.5]
            num_close += any(abs(scores[k, label] - score) < 0.15 for k in overlapping)
            total += 1
    assert total > 50
    assert num_close / total > 0.8, f"{num_close} of {total}"


def test_lists_paths_and_thresholds_are_accepted(exported, images, tmp_path):
    from PIL import Image

    path = tmp_path / "image.png"
    Image.fromarray(images[0]).save(path)
    detector = TFLiteDetector(exported("none")[0])
    everything = detector.detect(images[0], score_threshold=0.0)
    from_list = detector.detect([path, images[0]], score_threshold=0.0)
    for detections in from_list:
        np.testing.assert_array_equal(detections.boxes, everything.boxes)
    threshold = float(everything.scores[len(everything) // 2])
    some = detector.detect(str(path), score_threshold=threshold)
    assert len(some) == np.sum(everything.scores >= threshold) < len(everything)
    with pytest.raises(DataError, match="Convert it to RGB"):
        detector.detect(images[0][..., 0][None, ..., None])
