"""Selection of detections by NMS."""

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lightdet.boxes import SelectSpec, select_detections

SPEC = SelectSpec(score_threshold=0.2, iou_threshold=0.45, max_detections=12, pre_nms_top_k=1000)


def random_case(seed, batch, anchors=30, classes=3, size=64.0):
    random = np.random.default_rng(seed)
    corners = random.uniform(0, size - 20, (batch, anchors, 2))
    boxes = np.concatenate([corners, corners + random.uniform(4, 20, corners.shape)], -1).astype("float32")
    return boxes, random.uniform(0, 1, (batch, anchors, classes)).astype("float32")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_selection_equals_tensorflows_combined_nms(seed):
    boxes, scores = random_case(seed, batch=3)
    selected = select_detections(tf.constant(boxes), tf.constant(scores), SPEC)
    expected = tf.image.combined_non_max_suppression(
        boxes[:, :, None], scores, 1000, 12, SPEC.iou_threshold, SPEC.score_threshold, clip_boxes=False
    )
    np.testing.assert_array_equal(selected["count"], expected.valid_detections)
    np.testing.assert_allclose(selected["scores"], expected.nmsed_scores)
    for image, count in enumerate(np.asarray(selected["count"])):
        np.testing.assert_allclose(selected["boxes"][image, :count], expected.nmsed_boxes[image, :count])
        np.testing.assert_array_equal(selected["labels"][image, :count], expected.nmsed_classes[image, :count])


def test_a_batch_of_one_gives_the_same_detections_as_a_larger_batch():
    boxes, scores = random_case(5, batch=2)
    both = select_detections(tf.constant(boxes), tf.constant(scores), SPEC)
    alone = select_detections(tf.constant(boxes[1:]), tf.constant(scores[1:]), SPEC)
    for key, value in alone.items():
        np.testing.assert_array_equal(value[0], both[key][1])


def test_padding_is_zero_and_minus_one():
    boxes, scores = random_case(1, batch=1)
    scores[:] = 0.1
    scores[0, 7, 2] = 0.9
    selected = select_detections(tf.constant(boxes), tf.constant(scores), SPEC)
    assert selected["count"].numpy().tolist() == [1]
    assert selected["labels"].numpy()[0].tolist() == [2] + [-1] * 11
    np.testing.assert_array_equal(selected["boxes"][0, 1:], 0)
    np.testing.assert_array_equal(selected["scores"][0, 1:], 0)
    np.testing.assert_allclose(selected["boxes"][0, 0], boxes[0, 7])


def test_nms_is_applied_per_class():
    boxes = np.float32([[[10, 10, 30, 30], [10, 10, 30, 31]]])
    scores = np.float32([[[0.9, 0.0], [0.8, 0.7]]])
    selected = select_detections(tf.constant(boxes), tf.constant(scores), SPEC)
    assert selected["count"].numpy().tolist() == [2]
    np.testing.assert_allclose(selected["scores"][0, :2], [0.9, 0.7])
