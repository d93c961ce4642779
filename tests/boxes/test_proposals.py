"""Proposals of a region proposal network."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_loops import overlap

from keras_lightdet.boxes import ProposalSpec, PyramidAnchors, add_ground_truth_boxes, propose
from keras_lightdet.deploy import verify
from keras_lightdet.deploy.runtime import Graph
from keras_lightdet.deploy.tflite_convert import convert_float_part

SIZE = (64, 96)
ANCHORS = PyramidAnchors((16, 32), ((24,), (48,)), (0.5, 1.0, 2.0))
COUNTS = ANCHORS.level_counts(SIZE)
SPEC = ProposalSpec(pre_nms_top_k=30, post_nms_top_k=12, iou_threshold=0.5, min_size=4.0)


def random_case(seed, batch, *, step=None):
    """Logits and deltas; with a `step`, logits of an int8 file, of which many are equal."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (batch, sum(COUNTS))).astype("float32")
    logits = logits if step is None else np.round(logits / step) * np.float32(step)
    return logits, random.normal(0, 0.5, (batch, sum(COUNTS), 4)).astype("float32")


def proposed_by_loops(logits, deltas, spec, counts):
    """Proposals of one image in double precision: rows of (box, score), best first; None if an IoU is on the edge."""
    anchors, kept = ANCHORS.generate(SIZE).astype(float), []
    start = 0
    for count in counts:
        rows = sorted(range(start, start + count), key=lambda n: -logits[n])[: spec.pre_nms_top_k]
        start += count
        of_level = []
        for n in rows:
            a, d = anchors[n], deltas[n].astype(float)
            w, h = (a[2] - a[0]), (a[3] - a[1])
            x, y = (a[0] + a[2]) / 2 + d[0] * w, (a[1] + a[3]) / 2 + d[1] * h
            w, h = w * np.exp(d[2]), h * np.exp(d[3])
            box = np.clip([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 0, [SIZE[1], SIZE[0]] * 2)
            if min(box[2] - box[0], box[3] - box[1]) < spec.min_size:
                continue
            overlaps = [overlap(box, other) for _, other in of_level]
            if any(abs(each - spec.iou_threshold) < 1e-4 for each in overlaps):
                return None
            if all(each <= spec.iou_threshold for each in overlaps):
                of_level.append((logits[n], box))
        kept += of_level
    kept = sorted(kept, key=lambda pair: -pair[0])[: spec.post_nms_top_k]
    return np.array([[*box, 1 / (1 + np.exp(-float(logit)))] for logit, box in kept])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31 - 1), st.booleans(), st.sampled_from([None, 0.25, 1.0]))
def test_proposals_equal_the_rule_written_as_loops(seed, per_level, step):
    spec = ProposalSpec(30, 12, 0.5, 4.0, per_level)
    logits, deltas = random_case(seed, batch=3, step=step)
    counts = COUNTS if per_level else (sum(COUNTS),)
    expected = [proposed_by_loops(*one, spec, counts) for one in zip(logits, deltas, strict=True)]
    anchors = ANCHORS.generate(SIZE)
    together = propose(tf.constant(logits), tf.constant(deltas), anchors, SIZE, spec, level_counts=COUNTS)
    for b, rows in enumerate(expected):
        if rows is None:
            continue
        alone = propose(
            tf.constant(logits[b : b + 1]), tf.constant(deltas[b : b + 1]), anchors, SIZE, spec, level_counts=COUNTS
        )
        for found in ({key: value[b] for key, value in together.items()}, {k: v[0] for k, v in alone.items()}):
            assert int(tf.reduce_sum(tf.cast(found["valid"], tf.int32))) == len(rows)
            np.testing.assert_allclose(found["boxes"][: len(rows)], rows[:, :4], atol=1e-4)
            np.testing.assert_allclose(found["scores"][: len(rows)], rows[:, 4], atol=1e-6)
            np.testing.assert_array_equal(found["boxes"][len(rows) :], 0)
            np.testing.assert_array_equal(found["scores"][len(rows) :], 0)


def test_fewer_candidates_than_slots_leave_empty_slots():
    logits, deltas = random_case(0, batch=2)
    spec = ProposalSpec(3, 40, 0.9, 1e-3)
    for batch in (1, 2):
        found = propose(
            tf.constant(logits[:batch]),
            tf.constant(deltas[:batch]),
            ANCHORS.generate(SIZE),
            SIZE,
            spec,
            level_counts=COUNTS,
        )
        assert found["boxes"].shape == (batch, 40, 4)
        empty = ~found["valid"].numpy()
        assert not found["boxes"].numpy()[empty].any() and not found["scores"].numpy()[empty].any()
        assert (found["scores"].numpy()[~empty] > 0).all()
        counts = tf.reduce_sum(tf.cast(found["valid"], tf.int32), axis=1).numpy()
        assert (counts <= 6).all() and (counts >= 2).all()


def test_sure_objects_keep_their_order_where_probabilities_are_all_one():
    anchors = np.float32([[10 * n, 0, 10 * n + 8, 8] for n in range(6)])
    logits = np.float32([[40, 60, 50, 90, 80, 70]])
    for batch in (1, 2):
        found = propose(
            tf.constant(np.tile(logits, (batch, 1))), tf.zeros((batch, 6, 4)), anchors, SIZE, ProposalSpec(6, 6)
        )
        np.testing.assert_allclose(found["boxes"][-1, :, 0], [30, 40, 50, 10, 20, 0], atol=1e-4)
        np.testing.assert_array_equal(found["scores"][-1], 1.0)


@pytest.mark.parametrize("batch", [1, 3])
def test_xla_compiles_it_and_no_gradient_passes(batch):
    logits, deltas = (tf.Variable(part) for part in random_case(4, batch))

    def step():
        with tf.GradientTape() as tape:
            found = propose(logits, deltas, ANCHORS.generate(SIZE), SIZE, SPEC, level_counts=COUNTS)
            loss = tf.reduce_sum(found["boxes"] * logits[0, 0])
        return found, tape.gradient(loss, [logits, deltas])

    (plain, _), (compiled, gradients) = step(), tf.function(step, jit_compile=True)()
    for key, value in plain.items():
        np.testing.assert_allclose(compiled[key], value, rtol=1e-5, atol=1e-4)
    assert np.count_nonzero(gradients[0]) == 1  # of the factor, not through the boxes
    assert gradients[1] is None


def test_images_of_a_size_known_late_give_the_same_proposals():
    parts, anchors = [tf.constant(part) for part in random_case(4, batch=2)], ANCHORS.generate(SIZE)
    unknown = [tf.TensorSpec(shape) for shape in ((None, None), (None, None, 4), (None, 4))]
    size = [tf.TensorSpec((), tf.int32)] * 2

    @tf.function(input_signature=[*unknown, *size])
    def late(logits, deltas, anchors, height, width):
        counts = ANCHORS.level_counts((height, width))
        return propose(logits, deltas, anchors, (height, width), SPEC, level_counts=counts)

    expected = propose(*parts, anchors, SIZE, SPEC, level_counts=COUNTS)
    for key, value in late(*parts, tf.constant(anchors), *SIZE).items():
        assert value.shape[1] == 12
        np.testing.assert_allclose(value, expected[key], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("per_level", [True, False])
def test_a_tflite_file_of_built_ins_takes_the_first_of_equal_anchors_as_the_loops_do(per_level):
    """Runtimes differ in what their suppression takes first among equals, unless the order is told."""
    spec = dataclasses.replace(SPEC, per_level=per_level)
    counts = COUNTS if per_level else (sum(COUNTS),)

    def function(tensors):
        found = propose(tensors["logits"], tensors["deltas"], ANCHORS.generate(SIZE), SIZE, spec, level_counts=COUNTS)
        return {**found, "valid": tf.cast(found["valid"], tf.float32)}

    shapes = {"logits": (1, sum(COUNTS)), "deltas": (1, sum(COUNTS), 4)}
    content = convert_float_part(function, shapes)
    assert verify.require_allowed_ops(content)["NON_MAX_SUPPRESSION_V4"] == 1
    graph, compared = Graph(content), 0
    for seed in range(20):
        logits, deltas = random_case(seed, batch=1, step=(None, 0.25, 1.0)[seed % 3])
        expected = proposed_by_loops(logits[0], deltas[0], spec, counts)
        if expected is None:
            continue
        compared += 1
        found = graph.run({"logits": logits, "deltas": deltas})
        assert found["valid"].sum() == len(expected)
        np.testing.assert_allclose(found["boxes"][0, : len(expected)], expected[:, :4], atol=1e-4)
        np.testing.assert_allclose(found["scores"][0, : len(expected)], expected[:, 4], atol=1e-6)
    assert compared > 10


def test_true_boxes_join_the_proposals_but_for_padding_and_boxes_to_ignore():
    proposals = {"boxes": np.float32([[[1, 1, 5, 5]]]), "valid": np.array([[False]])}
    boxes = np.float32([[[2, 2, 9, 9], [3, 3, 9, 9], [np.nan] * 4]])
    joined = add_ground_truth_boxes(proposals, boxes, np.array([[4, 4, -1]]), np.array([[0, 1, 0]]))
    np.testing.assert_array_equal(joined["boxes"], [[[1, 1, 5, 5], [2, 2, 9, 9], [0] * 4, [0] * 4]])
    np.testing.assert_array_equal(joined["valid"], [[False, True, False, False]])


def test_a_size_that_lets_empty_boxes_through_is_refused():
    with pytest.raises(ValueError, match="min_size"):
        ProposalSpec(min_size=0.0)
