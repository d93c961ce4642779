"""The exported file answers as the Keras model does, and as a suppression written out in NumPy."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from noise_images import draw_image
from reference_loops import greedy, overlap

from keras_lightdet.boxes import SelectSpec, select_detections
from keras_lightdet.deploy import TFLiteDetector
from keras_lightdet.deploy.postprocess import build_postprocess
from keras_lightdet.deploy.runtime import Graph
from keras_lightdet.deploy.tflite_convert import convert_float_part
from keras_lightdet.errors import DataError
from keras_lightdet.images import resize_image


def decode(model, image):
    """Boxes `[N, 4]` and scores `[N, K]` of an image of the network's size."""
    return tuple(np.array(x)[0] for x in model.decode(model(image[None].astype(np.float32))))


@pytest.mark.parametrize("form", ["builtin", "custom_op"])
def test_float_file_equals_a_suppression_in_plain_loops(model, exported, pictures, form):
    detector = TFLiteDetector(exported("none", form)[0])
    total = 0
    for image in pictures:
        expected = greedy(*decode(model, image), model.select)
        found = detector.detect(image, score_threshold=0.0)
        np.testing.assert_array_equal(found.labels, expected[:, 5])
        np.testing.assert_allclose(found.scores, expected[:, 4], atol=1e-4)
        np.testing.assert_allclose(found.boxes, expected[:, :4], atol=1e-2)
        total += len(found)
    assert total > 20, "the images must hold detections for this to mean anything"


@pytest.mark.parametrize("form", ["builtin", "custom_op"])
def test_suppression_sees_the_best_pairs_only(model, pictures, form):
    few = dataclasses.replace(model.select, pre_nms_top_k=7)
    raw = model(pictures[0][None].astype(np.float32))
    boxes, scores = (np.array(x)[0] for x in model.decode(raw))
    scores[scores < np.sort(scores, axis=None)[-7]] = 0
    found = build_postprocess(model, form, few)(raw)
    expected = greedy(boxes, scores, few)
    count = int(found["count"][0])
    assert count == len(expected) < 7
    np.testing.assert_array_equal(found["labels"][0, :count], expected[:, 5])
    np.testing.assert_allclose(found["scores"][0, :count], expected[:, 4], rtol=1e-6)


def test_equal_scores_are_settled_alike_by_the_file_and_keras():
    """An int8 file has only 256 scores: which of equal ones is kept must not be the runtime's choice."""
    draw = np.random.default_rng(0)
    low = draw.uniform(0, 60, (1, 800, 2))
    tied = {
        "boxes": np.concatenate([low, low + draw.uniform(5, 40, low.shape)], axis=-1).astype("float32"),
        "scores": draw.choice(np.float32([0.25, 0.5, 0.75]), (1, 800, 3), p=[0.97, 0.02, 0.01]),
    }

    def select(inputs):
        found = select_detections(inputs["boxes"], inputs["scores"], SelectSpec(pre_nms_top_k=500))
        return {name: tf.cast(value, tf.float32) for name, value in found.items()}

    graph = Graph(convert_float_part(select, {name: value.shape for name, value in tied.items()}))
    expected, found = select(tied), graph.run(tied)
    assert found["count"][0] > len(np.unique(found["scores"])) > 1, "the scores must tie for this to mean anything"
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_boxes_are_in_pixels_of_an_oblong_image(model, exported):
    image = draw_image(77, size=(150, 90))
    expected = greedy(*decode(model, resize_image(image, model.input_size)), model.select)
    found = TFLiteDetector(exported("none")[0]).detect(image, score_threshold=0.0)
    scale = np.array([90, 150, 90, 150]) / model.input_size[0]
    np.testing.assert_allclose(found.boxes, expected[:, :4] * scale, atol=2e-2)
    np.testing.assert_allclose(found.scores, expected[:, 4], atol=1e-4)
    assert found.class_names == model.class_names


def test_what_int8_finds_keras_sees_too(model, exported, pictures):
    """Against all decoded boxes: which of many nearly equal scores survive the cut says nothing about precision."""
    detector, near, total = TFLiteDetector(exported("int8")[0]), 0, 0
    for image in pictures:
        boxes, scores = decode(model, image)
        found = detector.detect(image, score_threshold=0.0)
        for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True):
            alike = [k for k in range(len(boxes)) if overlap(box, boxes[k]) > 0.5]
            near += any(abs(scores[k, label] - score) < 0.15 for k in alike)
            total += 1
    assert total > 50
    assert near / total > 0.8, f"{near} of {total}"


def test_lists_paths_and_thresholds(exported, pictures, tmp_path):
    from PIL import Image

    path = tmp_path / "image.png"
    Image.fromarray(pictures[0]).save(path)
    detector = TFLiteDetector(exported("none")[0])
    everything = detector.detect(pictures[0], score_threshold=0.0)
    from_list = detector.detect([path, pictures[0]], score_threshold=0.0)
    for found in from_list:
        np.testing.assert_array_equal(found.boxes, everything.boxes)
    cut = float(everything.scores[len(everything) // 2])
    some = detector.detect(str(path), score_threshold=cut)
    assert len(some) == np.sum(everything.scores >= cut) < len(everything)
    with pytest.raises(DataError, match="Convert it to RGB"):
        detector.detect(pictures[0][..., 0][None, ..., None])
