"""Proposals of a region proposal network."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_loops import iou

from keras_lightdet.boxes import ProposalSpec, PyramidAnchors, add_ground_truth_boxes, propose
from keras_lightdet.deploy import verify
from keras_lightdet.deploy.runtime import TFLiteGraph
from keras_lightdet.deploy.tflite_convert import convert_function

SIZE = (64, 96)
ANCHORS = PyramidAnchors((16, 32), ((24,), (48,)), (0.5, 1.0, 2.0))
COUNTS = ANCHORS.level_counts(SIZE)
SPEC = ProposalSpec(pre_nms_top_k=30, post_nms_top_k=12, iou_threshold=0.5, min_size=4.0)


def random_case(seed, batch, *, step=None):
    """Returns logits and deltas; a `step` quantizes the logits as an int8 file does, so that many are equal."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (batch, sum(COUNTS))).astype("float32")
    logits = logits if step is None else np.round(logits / step) * np.float32(step)
    return logits, random.normal(0, 0.5, (batch, sum(COUNTS), 4)).astype("float32")


def propose_by_loops(logits, deltas, spec, counts):
    """Returns proposals of one image in double precision: rows of (box, score), best first.

    None if an IoU is too close to the threshold.
    """
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
            overlaps = [iou(box, other) for _, other in of_level]
            if any(abs(each - spec.iou_threshold) < 1e-4 for each in overlaps):
                return None
            if all(each <= spec.iou_threshold for each in overlaps):
                of_level.append((logits[n], box))
        kept += of_level
    kept = sorted(kept, key=lambda pair: -pair[0])[: spec.post_nms_top_k]
    return np.array([[*box, 1 / (1 + np.exp(-float(logit)))] for logit, box in kept])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31 - 1), st.booleans(), st.sampled_from([None, 0.25, 1.0]))
def test_proposals_equal_a_loop_implementation(seed, per_level, step):
    spec = ProposalSpec(30, 12, 0.5, 4.0, per_level)
    logits, deltas = random_case(seed, batch=3, step=step)
    counts = COUNTS if per_level else (sum(COUNTS),)
    expected = [propose_by_loops(*arrays, spec, counts) for arrays in zip(logits, deltas, strict=True)]
    anchors = ANCHORS.generate(SIZE)
    together = propose(tf.constant(logits), tf.constant(deltas), anchors, SIZE, spec, level_counts=COUNTS)
    for b, rows in enumerate(expected):
        if rows is None:
            continue
        alone = propose(
            tf.constant(logits[b : b + 1]), tf.constant(deltas[b : b + 1]), anchors, SIZE, spec, level_counts=COUNTS
        )
        for proposals in ({key: value[b] for key, value in together.items()}, {k: v[0] for k, v in alone.items()}):
            assert int(tf.reduce_sum(tf.cast(proposals["valid"], tf.int32))) == len(rows)
            np.testing.assert_allclose(proposals["boxes"][: len(rows)], rows[:, :4], atol=1e-4)
            np.testing.assert_allclose(proposals["scores"][: len(rows)], rows[:, 4], atol=1e-6)
            np.testing.assert_array_equal(proposals["boxes"][len(rows) :], 0)
            np.testing.assert_array_equal(proposals["scores"][len(rows) :], 0)


def test_padding_where_there_are_fewer_candidates_than_slots():
    logits, deltas = random_case(0, batch=2)
    spec = ProposalSpec(3, 40, 0.9, 1e-3)
    for batch in (1, 2):
        proposals = propose(
            tf.constant(logits[:batch]),
            tf.constant(deltas[:batch]),
            ANCHORS.generate(SIZE),
            SIZE,
            spec,
            level_counts=COUNTS,
        )
        assert proposals["boxes"].shape == (batch, 40, 4)
        empty = ~proposals["valid"].numpy()
        assert not proposals["boxes"].numpy()[empty].any() and not proposals["scores"].numpy()[empty].any()
        assert (proposals["scores"].numpy()[~empty] > 0).all()
        counts = tf.reduce_sum(tf.cast(proposals["valid"], tf.int32), axis=1).numpy()
        assert (counts <= 6).all() and (counts >= 2).all()


def test_proposals_are_ordered_by_logit_where_probabilities_round_to_one():
    anchors = np.float32([[10 * n, 0, 10 * n + 8, 8] for n in range(6)])
    logits = np.float32([[40, 60, 50, 90, 80, 70]])
    for batch in (1, 2):
        proposals = propose(
            tf.constant(np.tile(logits, (batch, 1))), tf.zeros((batch, 6, 4)), anchors, SIZE, ProposalSpec(6, 6)
        )
        np.testing.assert_allclose(proposals["boxes"][-1, :, 0], [30, 40, 50, 10, 20, 0], atol=1e-4)
        np.testing.assert_array_equal(proposals["scores"][-1], 1.0)


@pytest.mark.parametrize("batch", [1, 3])
def test_xla_compiles_propose_and_no_gradient_flows(batch):
    logits, deltas = (tf.Variable(array) for array in random_case(4, batch))

    def step():
        with tf.GradientTape() as tape:
            proposals = propose(logits, deltas, ANCHORS.generate(SIZE), SIZE, SPEC, level_counts=COUNTS)
            loss = tf.reduce_sum(proposals["boxes"] * logits[0, 0])
        return proposals, tape.gradient(loss, [logits, deltas])

    (eager, _), (compiled, gradients) = step(), tf.function(step, jit_compile=True)()
    for key, value in eager.items():
        np.testing.assert_allclose(compiled[key], value, rtol=1e-5, atol=1e-4)
    assert np.count_nonzero(gradients[0]) == 1  # through the factor, not the boxes
    assert gradients[1] is None


def test_dynamic_image_size_gives_the_same_proposals():
    raw, anchors = [tf.constant(array) for array in random_case(4, batch=2)], ANCHORS.generate(SIZE)
    unknown = [tf.TensorSpec(shape) for shape in ((None, None), (None, None, 4), (None, 4))]
    size = [tf.TensorSpec((), tf.int32)] * 2

    @tf.function(input_signature=[*unknown, *size])
    def propose_dynamic(logits, deltas, anchors, height, width):
        counts = ANCHORS.level_counts((height, width))
        return propose(logits, deltas, anchors, (height, width), SPEC, level_counts=counts)

    expected = propose(*raw, anchors, SIZE, SPEC, level_counts=COUNTS)
    for key, value in propose_dynamic(*raw, tf.constant(anchors), *SIZE).items():
        assert value.shape[1] == 12
        np.testing.assert_allclose(value, expected[key], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("per_level", [True, False])
def test_tflite_breaks_ties_by_rank(per_level):
    spec = dataclasses.replace(SPEC, per_level=per_level)
    counts = COUNTS if per_level else (sum(COUNTS),)

    def function(tensors):
        proposals = propose(
            tensors["logits"], tensors["deltas"], ANCHORS.generate(SIZE), SIZE, spec, level_counts=COUNTS
        )
        return {**proposals, "valid": tf.cast(proposals["valid"], tf.float32)}

    shapes = {"logits": (1, sum(COUNTS)), "deltas": (1, sum(COUNTS), 4)}
    content = convert_function(function, shapes)
    assert verify.check_allowed_ops(content)["NON_MAX_SUPPRESSION_V4"] == 1
    graph, compared = TFLiteGraph(content), 0
    for seed in range(20):
        logits, deltas = random_case(seed, batch=1, step=(None, 0.25, 1.0)[seed % 3])
        expected = propose_by_loops(logits[0], deltas[0], spec, counts)
        if expected is None:
            continue
        compared += 1
        proposals = graph.run({"logits": logits, "deltas": deltas})
        assert proposals["valid"].sum() == len(expected)
        np.testing.assert_allclose(proposals["boxes"][0, : len(expected)], expected[:, :4], atol=1e-4)
        np.testing.assert_allclose(proposals["scores"][0, : len(expected)], expected[:, 4], atol=1e-6)
    assert compared > 10


def test_ground_truth_boxes_are_added_without_padding_and_boxes_to_ignore():
    proposals = {"boxes": np.float32([[[1, 1, 5, 5]]]), "valid": np.array([[False]])}
    boxes = np.float32([[[2, 2, 9, 9], [3, 3, 9, 9], [np.nan] * 4]])
    joined = add_ground_truth_boxes(proposals, boxes, np.array([[4, 4, -1]]), np.array([[0, 1, 0]]))
    np.testing.assert_array_equal(joined["boxes"], [[[1, 1, 5, 5], [2, 2, 9, 9], [0] * 4, [0] * 4]])
    np.testing.assert_array_equal(joined["valid"], [[False, True, False, False]])


def test_min_size_zero_is_rejected():
    with pytest.raises(ValueError, match="min_size"):
        ProposalSpec(min_size=0.0)
