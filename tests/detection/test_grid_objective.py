"""GridObjective: losses against loops over anchors, degenerate targets, decoding."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_detector import NAMES, random_batch

from keras_lightdet.boxes import GridAnchors, SelectSpec, assign_grid_anchors, iou, select_detections
from keras_lightdet.detection import GridObjective

OBJECTIVE = GridObjective(GridAnchors((8, 16), (((10, 10), (20, 12)), ((40, 40), (30, 60)))))
ANCHORS = OBJECTIVE.anchors.generate((64, 64))
COUNT = len(ANCHORS.centers)


def random_raw(batch, seed=0):
    random = np.random.default_rng(seed)
    shapes = {"box_deltas": (batch, COUNT, 4), "objectness": (batch, COUNT), "class_logits": (batch, COUNT, len(NAMES))}
    return {key: random.normal(0, 1, shape).astype("float32") for key, shape in shapes.items()}


def sigmoid(x):
    return 1 / (1 + np.exp(-np.float64(x)))


def cross_entropy(target, logit):
    return -(target * np.log(sigmoid(logit)) + (1 - target) * np.log(1 - sigmoid(logit)))


def iou_and_fraction_inside(a, b):
    shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    return shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared), shared / np.prod(a[2:] - a[:2])


def losses_by_loops(raw, targets, assigned):
    """Computes the loss anchor by anchor; the assignment has its own tests."""
    boxes = np.asarray(OBJECTIVE.decode_boxes(raw["box_deltas"], ANCHORS), "float64")
    sums, positives = {"box_loss": 0.0, "objectness_loss": 0.0, "class_loss": 0.0}, 0
    for b in range(len(boxes)):
        for n in range(COUNT):
            logit, target, counted = raw["objectness"][b, n], 0.0, True
            if assigned[b, n] >= 0:
                positives += 1
                true_box = targets["boxes"][b, assigned[b, n]]
                overlap = float(iou(boxes[b, n][None].astype("float32"), true_box[None], "ciou")[0])
                target = min(max(overlap, 0.0), 1.0)
                sums["box_loss"] += OBJECTIVE.loss.box_weight * (1 - overlap)
                for k in range(len(NAMES)):
                    is_class = float(targets["labels"][b, assigned[b, n]] == k)
                    sums["class_loss"] += cross_entropy(is_class, raw["class_logits"][b, n, k])
            else:
                for box, label, ignore in zip(*(targets[key][b] for key in ("boxes", "labels", "ignore")), strict=True):
                    if label >= 0:
                        overlap, inside = iou_and_fraction_inside(boxes[b, n], box.astype("float64"))
                        counted &= (inside if ignore else overlap) <= OBJECTIVE.loss.ignore_iou
            if counted:
                sums["objectness_loss"] += abs(target - sigmoid(logit)) ** 2 * cross_entropy(target, logit)
    return {key: value / max(positives, 1) for key, value in sums.items()}, positives


def test_losses_equal_a_loop_implementation():
    _, targets = random_batch(batch=3, boxes=6, seed=4)
    raw = random_raw(3)
    valid = (targets["labels"] >= 0) & (targets["ignore"] == 0)
    assigned = assign_grid_anchors(
        ANCHORS.centers,
        ANCHORS.strides,
        ANCHORS.shapes,
        np.float32(OBJECTIVE.anchors.sizes).reshape(-1, 2),
        targets["boxes"],
        valid,
        OBJECTIVE.assigner,
    )
    expected, positives = losses_by_loops(raw, targets, np.asarray(assigned))
    assert positives > 20
    losses = OBJECTIVE.compute_losses(raw, targets, ANCHORS)
    for key, value in expected.items():
        assert float(losses[key]) == pytest.approx(value, rel=1e-4), key


def degenerate_targets(kind):
    count = 300 if kind == "300 boxes" else 4
    _, targets = random_batch(batch=2, boxes=count, seed=1)
    if kind == "no boxes":
        targets.update(boxes=np.zeros_like(targets["boxes"]), labels=np.full_like(targets["labels"], -1))
    if kind == "empty boxes":
        targets["boxes"][..., 2:] = targets["boxes"][..., :2]
    if kind == "all ignored":
        targets["ignore"][:] = 1
    if kind == "NaN in padding":
        targets["labels"][:, 1:] = -1
        targets["boxes"][:, 1:] = np.nan
    return targets


@pytest.mark.parametrize("kind", ["no boxes", "empty boxes", "all ignored", "300 boxes", "NaN in padding"])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_loss_and_gradients_are_finite_for_degenerate_targets(kind, scale):
    raw = {key: tf.Variable(scale * value) for key, value in random_raw(2).items()}
    with tf.GradientTape() as tape:
        losses = OBJECTIVE.compute_losses(raw, degenerate_targets(kind), ANCHORS)
        total = sum(losses.values())
    assert np.isfinite(total)
    for key, gradient in tape.gradient(total, raw, unconnected_gradients="zero").items():
        assert np.all(np.isfinite(gradient)), key


def test_anchors_inside_a_box_to_ignore_have_no_objectness_loss():
    """Without that box the same anchors have a large loss."""
    raw = random_raw(1)
    raw["objectness"][:] = -12.0
    raw["box_deltas"][:] = 0.0
    index = 2 * (8 * 3 + 3)
    raw["objectness"][0, index] = 6.0
    box = np.asarray(OBJECTIVE.decode_boxes(raw["box_deltas"], ANCHORS))[0, index] + np.float32([-8, -8, 8, 8])
    targets = {"boxes": box[None, None], "labels": np.int32([[1]]), "ignore": np.uint8([[1]])}
    ignored = OBJECTIVE.compute_losses(raw, targets, ANCHORS)["objectness_loss"]
    background = OBJECTIVE.compute_losses(raw, {**targets, "labels": np.int32([[-1]])}, ANCHORS)["objectness_loss"]
    assert float(ignored) < 1e-3 < 5 < float(background)


def test_outputs_that_encode_the_ground_truth_decode_to_it():
    true_boxes = np.float32(
        [[3, 2, 15, 12], [20, 1, 60, 20], [5, 25, 18, 60], [30, 30, 62, 40], [30, 45, 41, 63], [50, 44, 60, 58]]
    )
    targets = {"boxes": true_boxes[None], "labels": np.int32([[0, 1, 2, 0, 1, 2]])}
    raw = {key: np.full_like(value, -12.0) for key, value in random_raw(1).items()}
    raw["box_deltas"][:] = 0.0
    for box, label in zip(targets["boxes"][0], targets["labels"][0], strict=True):
        center, sides = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
        index = np.argmin(np.abs(ANCHORS.centers - center).max(1) / ANCHORS.strides)
        position = (center - ANCHORS.centers[index]) / (2 * ANCHORS.strides[index]) + 0.5
        raw["box_deltas"][0, index] = [*np.log(position / (1 - position)), *np.log(sides / ANCHORS.sizes[index])]
        raw["objectness"][0, index] = raw["class_logits"][0, index, label] = 12.0
    boxes, scores = OBJECTIVE.decode_boxes(raw["box_deltas"], ANCHORS), OBJECTIVE.decode_scores(raw)
    selected = select_detections(tf.constant(boxes), tf.constant(scores), SelectSpec(score_threshold=0.5))
    assert int(selected["count"][0]) == 6
    order = np.lexsort(np.asarray(selected["boxes"])[0, :6].T)
    true_order = np.lexsort(targets["boxes"][0].T)
    np.testing.assert_allclose(selected["boxes"].numpy()[0, order], targets["boxes"][0, true_order], atol=1e-2)
    np.testing.assert_array_equal(selected["labels"].numpy()[0, order], targets["labels"][0, true_order])


def test_keras_restores_the_objective():
    config = keras.saving.serialize_keras_object(OBJECTIVE)
    assert keras.saving.deserialize_keras_object(config) == OBJECTIVE
