"""Label assignment of anchors and proposals by IoU."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lightdet.boxes import BACKGROUND, IGNORED, IoUAssigner, PyramidAnchors, assign_anchors, assignment

RPN = IoUAssigner(0.7, 0.3, allow_low_quality=True)


def intersection_and_iou(a, b):
    """Returns intersection and IoU of two boxes in Python floats."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = width * height if width > 0 and height > 0 else 0.0
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared, shared / union if union > 0 else 0.0


def assign_by_loops(candidates, boxes, labels, ignore, spec):
    """Applies the rule of IoUAssigner candidate by candidate and box by box, in double precision."""
    assigned = np.full(len(candidates), BACKGROUND)
    real = [g for g in range(len(boxes)) if labels[g] >= 0 and not ignore[g]]
    ious = {(n, g): intersection_and_iou(c, boxes[g])[1] for n, c in enumerate(candidates) for g in real}
    best_of_box = {g: max(ious[n, g] for n in range(len(candidates))) for g in real}
    for n, candidate in enumerate(candidates):
        best = max(real, key=lambda g, n=n: ious[n, g], default=None)
        quality = ious[n, best] if best is not None else -1.0
        is_best = any(best_of_box[g] > 0 and ious[n, g] >= best_of_box[g] * (1 - 1e-9) for g in real)
        positive = quality >= spec.positive_iou or (spec.allow_low_quality and is_best)
        assigned[n] = best if positive else BACKGROUND if quality < spec.negative_iou else IGNORED
        area = (candidate[2] - candidate[0]) * (candidate[3] - candidate[1])
        fractions = [
            intersection_and_iou(candidate, boxes[g])[0] / area
            for g in range(len(boxes))
            if labels[g] >= 0 and ignore[g]
        ]
        if max(fractions, default=0.0) > spec.ignore_overlap and (spec.ignore_positives or not positive):
            assigned[n] = IGNORED
    return assigned


def random_case(seed, candidates=60, boxes=6):
    """Returns boxes of two images, some of them padding or to ignore, and candidates near boxes and elsewhere."""
    random = np.random.default_rng(seed)
    low = random.uniform(0, 60, (2, boxes, 2))
    boxes_of_images = np.concatenate([low, low + random.uniform(8, 60, low.shape)], -1)
    near = boxes_of_images[:, random.integers(0, boxes, candidates)] + random.normal(0, 3, (2, candidates, 4))
    low = np.minimum(near[..., :2], near[..., 2:] - 1)
    near = np.concatenate([low, near[..., 2:]], -1).astype("float32")
    labels = np.where(random.random((2, boxes)) < 0.8, random.integers(0, 20, (2, boxes)), -1)
    return near, boxes_of_images.astype("float32"), labels, (random.random((2, boxes)) < 0.25).astype("int32")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31 - 1), st.booleans(), st.booleans(), st.sampled_from([(0.7, 0.3), (0.5, 0.5)]))
def test_assignment_equals_a_loop_implementation(seed, low_quality, ignore_positives, bounds):
    candidates, boxes, labels, ignore = random_case(seed)
    spec = IoUAssigner(*bounds, allow_low_quality=low_quality, ignore_positives=ignore_positives)
    assigned = assign_anchors(candidates, boxes, labels, ignore, spec)
    expected = [
        assign_by_loops(*(array[b].astype(float) for array in (candidates, boxes)), labels[b], ignore[b], spec)
        for b in range(2)
    ]
    np.testing.assert_array_equal(assigned, expected)


@pytest.mark.parametrize("shape", ["anchors", "proposals"])
def test_chunked_assignment_equals_unchunked_assignment(monkeypatch, shape):
    candidates, boxes, labels, ignore = random_case(3, candidates=61)
    candidates = candidates[0] if shape == "anchors" else candidates
    whole = np.asarray(assign_anchors(candidates, boxes, labels, ignore, RPN))
    monkeypatch.setattr(assignment, "_MAX_TABLE", 2 * 6 * 13)  # five chunks, the last one shorter
    np.testing.assert_array_equal(assign_anchors(candidates, boxes, labels, ignore, RPN), whole)
    compiled = tf.function(lambda *arrays: assign_anchors(*arrays, RPN), jit_compile=True)
    np.testing.assert_array_equal(compiled(candidates, boxes, labels, ignore), whole)
    tensors = [tf.constant(array) for array in (candidates, boxes, labels, ignore)]
    shapes = ([None] * (len(tensor.shape) - 1) + [4] for tensor in tensors[:2])
    unknown = [
        *(tf.TensorSpec(shape) for shape in shapes),
        *(tf.TensorSpec((None, None), tensor.dtype) for tensor in tensors[2:]),
    ]
    of_any_shape = tf.function(lambda *arrays: assign_anchors(*arrays, RPN), input_signature=unknown)
    np.testing.assert_array_equal(of_any_shape(*tensors), whole)
    assert (whole >= 0).sum() > 10
    assert (whole == IGNORED).sum() > 10


def test_all_best_anchors_of_a_box_are_positive_at_any_iou():
    anchors = PyramidAnchors((16,), ((16,),), (1.0,), offset=0.5).generate((32, 32))
    box = np.float32([[[12, 12, 20, 20]]])  # 4 x 4 pixels in each of the four anchors: IoU 16 / 304
    assigned = assign_anchors(anchors, box, np.array([[3]]), np.array([[0]]), RPN)
    np.testing.assert_array_equal(assigned, [[0, 0, 0, 0]])
    assigned = assign_anchors(anchors, box, np.array([[3]]), np.array([[0]]), IoUAssigner(0.7, 0.3))
    np.testing.assert_array_equal(assigned, [[-1, -1, -1, -1]])


def test_a_box_without_overlapping_anchor_gives_no_positives():
    anchors = np.float32([[0, 0, 10, 10], [20, 0, 30, 10]])
    assigned = assign_anchors(anchors, np.float32([[[90, 90, 99, 99]]]), np.array([[0]]), np.array([[0]]), RPN)
    np.testing.assert_array_equal(assigned, [[-1, -1]])


def test_assignment_with_boxes_to_ignore_and_padding():
    anchors = np.float32([[0, 0, 10, 10], [2, 2, 8, 8], [30, 30, 40, 40], [0, 0, 30, 30]])
    boxes = np.float32([[[0, 0, 10, 10], [2, 2, 8, 8], [30, 30, 40, 40]]])
    labels, ignore = np.array([[5, 5, -1]]), np.array([[1, 0, 0]])
    kept = IoUAssigner(0.7, 0.3, ignore_positives=False)
    np.testing.assert_array_equal(assign_anchors(anchors, boxes, labels, ignore, kept), [[-2, 1, -1, -1]])
    np.testing.assert_array_equal(
        assign_anchors(anchors, boxes, labels, ignore, IoUAssigner(0.7, 0.3)), [[-2, -2, -1, -1]]
    )


def test_an_image_without_boxes_is_background():
    assigned = assign_anchors(
        np.float32([[0, 0, 9, 9]]), np.full((1, 2, 4), np.nan, "f4"), -np.ones((1, 2), int), [[0, 0]], RPN
    )
    np.testing.assert_array_equal(assigned, [[-1]])


def test_thresholds_in_the_wrong_order_are_rejected():
    with pytest.raises(ValueError, match="negative_iou <= positive_iou"):
        IoUAssigner(0.3, 0.7)
