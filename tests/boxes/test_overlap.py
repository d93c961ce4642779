"""IoU and its variants."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lightdet.boxes import iou, pairwise_intersection, pairwise_iou, shape_iou

coordinate = st.floats(-50, 50, width=32)


@st.composite
def some_boxes(draw):
    corners = np.array(draw(st.lists(st.tuples(*[coordinate] * 4), min_size=1, max_size=5)), "float32")
    return np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1)


def areas_by_definition(a, b):
    """Returns intersection, union and hull area of two boxes in Python floats."""
    a, b = [float(v) for v in a], [float(v) for v in b]
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = width * height if width > 0 and height > 0 else 0.0
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return shared, union, hull


@settings(max_examples=60, deadline=None)
@given(some_boxes(), some_boxes())
def test_pairwise_overlaps_equal_the_definition(boxes, others):
    expected = [[areas_by_definition(a, b) for b in others] for a in boxes]
    shared, union = (np.array([[cell[k] for cell in row] for row in expected]) for k in (0, 1))
    np.testing.assert_allclose(pairwise_intersection(boxes, others), shared, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(pairwise_iou(boxes, others), shared / np.maximum(union, 1e-7), rtol=1e-3, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(some_boxes(), some_boxes())
def test_giou_equals_the_definition(boxes, others):
    count = min(len(boxes), len(others))
    for a, b, giou in zip(boxes, others, iou(boxes[:count], others[:count], "giou"), strict=False):
        shared, union, hull = areas_by_definition(a, b)
        if union > 1e-3:
            assert float(giou) == pytest.approx(shared / union - (hull - union) / hull, abs=1e-4)


def test_ciou_of_a_worked_example():
    box, other = np.float32([[0, 0, 2, 2]]), np.float32([[1, 0, 3, 1]])
    shared, union, distance, diagonal = 1.0, 4.0 + 2.0 - 1.0, 1.0**2 + 0.5**2, 3.0**2 + 2.0**2
    aspect = 4 / np.pi**2 * (np.arctan(2 / 1) - np.arctan(2 / 2)) ** 2
    weight = aspect / (1 - shared / union + aspect)
    assert float(iou(box, other, "diou")[0]) == pytest.approx(shared / union - distance / diagonal, abs=1e-6)
    assert float(iou(box, other, "ciou")[0]) == pytest.approx(
        shared / union - distance / diagonal - weight * aspect, abs=1e-6
    )


@pytest.mark.parametrize("kind", ["iou", "giou", "diou", "ciou"])
def test_equal_boxes_have_iou_one_and_empty_boxes_have_finite_gradients(kind):
    box = np.float32([[3, 4, 10, 20]])
    assert float(iou(box, box, kind)[0]) == pytest.approx(1.0, abs=1e-5)
    empty = tf.Variable(np.float32([[5, 5, 5, 5], [0, 0, 0, 0]]))
    with tf.GradientTape() as tape:
        overlap = tf.reduce_sum(iou(empty, np.float32([[5, 5, 5, 5], [1, 1, 3, 3]]), kind))
    assert np.all(np.isfinite(overlap))
    assert np.all(np.isfinite(tape.gradient(overlap, empty)))


def test_unknown_kind_is_rejected():
    with pytest.raises(ValueError, match="ciou"):
        iou(np.zeros((1, 4), "float32"), np.zeros((1, 4), "float32"), "eiou")


def test_shape_iou_depends_on_sizes_only():
    assert float(shape_iou(np.float32([[4, 2]]), np.float32([[2, 4]]))[0, 0]) == pytest.approx(4 / 12)
