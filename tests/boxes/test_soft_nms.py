"""Soft NMS, and boxes per class."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_loops import iou

from keras_lightdet.boxes import SelectSpec, select_detections
from keras_lightdet.deploy import verify
from keras_lightdet.deploy.runtime import TFLiteGraph
from keras_lightdet.deploy.tflite_convert import convert_function

GAUSSIAN = SelectSpec(0.1, 0.45, 12, 1000, "gaussian", 0.5)
LINEAR = SelectSpec(0.1, 0.3, 12, 1000, "linear")
HARD = SelectSpec(0.1, 0.45, 12, 1000)


def random_case(seed, per_class, batch=2, anchors=12, classes=3, size=40.0):
    random = np.random.default_rng(seed)
    low = random.uniform(0, size - 20, (batch, anchors, *([classes] if per_class else []), 2))
    boxes = np.concatenate([low, low + random.uniform(4, 20, low.shape)], -1).astype("float32")
    return boxes, random.uniform(0, 1, (batch, anchors, classes)).astype("float32")


def select_by_loops(boxes, scores, spec):
    """Applies figure 2 of Bodla et al. 2017 class by class in double precision.

    Returns rows of (score, label, box), best first.
    """
    kept = []
    for label in range(scores.shape[-1]):
        own = boxes if boxes.ndim == 2 else boxes[:, label]
        remaining = [(float(score), box.astype(float)) for score, box in zip(scores[:, label], own, strict=True)]
        while remaining:
            best = max(range(len(remaining)), key=lambda i: remaining[i][0])
            score, box = remaining.pop(best)
            if score <= spec.score_threshold:
                break
            kept.append((score, label, box))
            for i, (other_score, other) in enumerate(remaining):
                overlap = iou(box, other)
                if spec.soft_nms == "gaussian":
                    other_score *= np.exp(-(overlap**2) / spec.sigma)
                elif overlap > spec.iou_threshold:
                    other_score *= (1 - overlap) if spec.soft_nms == "linear" else 0.0
                remaining[i] = (other_score, other)
    return sorted(kept, key=lambda row: -row[0])[: spec.max_detections]


def assert_equals_loops(selected, boxes, scores, spec):
    for image in range(len(boxes)):
        expected = select_by_loops(boxes[image], scores[image], spec)
        assert int(selected["count"][image]) == len(expected)
        rows = slice(0, len(expected))
        np.testing.assert_allclose(selected["scores"][image][rows], [row[0] for row in expected], atol=2e-5)
        np.testing.assert_array_equal(selected["labels"][image][rows], [row[1] for row in expected])
        np.testing.assert_allclose(selected["boxes"][image][rows], [row[2] for row in expected], atol=1e-5)
        np.testing.assert_array_equal(selected["scores"][image][len(expected) :], 0)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**31 - 1), st.booleans(), st.sampled_from([GAUSSIAN, LINEAR, HARD]))
def test_selection_equals_a_loop_implementation(seed, per_class, spec):
    boxes, scores = random_case(seed, per_class)
    assert_equals_loops(select_detections(tf.constant(boxes), tf.constant(scores), spec), boxes, scores, spec)
    single = select_detections(tf.constant(boxes[:1]), tf.constant(scores[:1]), spec)
    assert_equals_loops(single, boxes[:1], scores[:1], spec)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**31 - 1), st.sampled_from([0.2, 0.5, 1.0]))
def test_the_built_in_form_equals_a_loop_implementation(seed, sigma):
    spec = SelectSpec(0.1, 0.45, 12, 1000, "gaussian", sigma)
    boxes, scores = random_case(seed, per_class=True)
    assert_equals_loops(
        select_detections(tf.constant(boxes), tf.constant(scores), spec, built_ins_only=True), boxes, scores, spec
    )


def test_scores_of_a_worked_example():
    boxes = tf.constant([[[0, 0, 10, 10], [0, 0, 10, 5], [20, 20, 30, 30]]], tf.float32)  # IoU of the first two: 1/2
    scores = tf.constant([[[0.9], [0.8], [0.5]]])
    np.testing.assert_allclose(select_detections(boxes, scores, LINEAR)["scores"][0, :3], [0.9, 0.5, 0.4], rtol=1e-5)
    gaussian = select_detections(boxes, scores, GAUSSIAN)["scores"][0, :3]
    np.testing.assert_allclose(gaussian, [0.9, 0.5, 0.8 * np.exp(-0.5)], rtol=1e-5)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("spec", [GAUSSIAN, LINEAR, HARD])
def test_xla_compiles_selection(batch, spec):
    boxes, scores = random_case(8, True, batch)
    compiled = tf.function(lambda boxes, scores: select_detections(boxes, scores, spec), jit_compile=True)
    assert_equals_loops({key: value.numpy() for key, value in compiled(boxes, scores).items()}, boxes, scores, spec)


@pytest.mark.parametrize("spec", [GAUSSIAN, HARD])
def test_tflite_selects_the_same_detections(spec):
    boxes, scores = random_case(9, True, batch=1)

    def function(tensors):
        selected = select_detections(tensors["boxes"], tensors["scores"], spec, built_ins_only=True)
        return {key: tf.cast(value, tf.float32) for key, value in selected.items()}

    content = convert_function(function, {"boxes": boxes.shape, "scores": scores.shape})
    assert f"NON_MAX_SUPPRESSION_{'V5' if spec.soft_nms else 'V4'}" in verify.check_allowed_ops(content)
    assert_equals_loops(TFLiteGraph(content).run({"boxes": boxes, "scores": scores}), boxes, scores, spec)


def test_of_two_equal_boxes_keras_lowers_one_score_and_tflite_drops_one_box():
    boxes, scores = np.float32([[[0, 0, 10, 10], [0, 0, 10, 10]]]), np.float32([[[0.9], [0.85]]])

    def function(tensors):
        selected = select_detections(tensors["boxes"], tensors["scores"], GAUSSIAN, built_ins_only=True)
        return {"scores": selected["scores"]}

    lowered = select_detections(tf.constant(boxes), tf.constant(scores), GAUSSIAN)["scores"][0, :2]
    np.testing.assert_allclose(lowered, [0.9, 0.85 * np.exp(-2)], rtol=1e-5)
    content = convert_function(function, {"boxes": boxes.shape, "scores": scores.shape})
    dropped = TFLiteGraph(content).run({"boxes": boxes, "scores": scores})["scores"][0, :2]
    np.testing.assert_allclose(dropped, [0.9, 0], rtol=1e-5)


def test_invalid_soft_nms_is_rejected():
    with pytest.raises(ValueError, match="linear"):
        SelectSpec(soft_nms="hard")
    with pytest.raises(ValueError, match="sigma"):
        SelectSpec(soft_nms="gaussian", sigma=0.0)
    with pytest.raises(ValueError, match="gaussian"):
        select_detections(*(tf.constant(array) for array in random_case(0, False)), LINEAR, built_ins_only=True)
