"""AnchorObjective: losses against loops over anchors, degenerate targets, decoding."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_detector import NAMES, random_batch

from keras_lightdet.boxes import PyramidAnchors, SelectSpec, select_detections
from keras_lightdet.detection import AnchorLoss, AnchorObjective

OBJECTIVE = AnchorObjective(PyramidAnchors.octaves((8, 16, 32), scale=2.0, offset=0.5))
SIDES = (64, 64)
ANCHORS = OBJECTIVE.anchors.generate(SIDES)
COUNT = len(ANCHORS)


def random_raw(batch, seed=0):
    random = np.random.default_rng(seed)
    shapes = {"box_deltas": (batch, COUNT, 4), "class_logits": (batch, COUNT, len(NAMES))}
    return {key: random.normal(0, 1, shape).astype("float32") for key, shape in shapes.items()}


def iou_and_fraction_inside(a, b):
    shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    return shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared), shared / np.prod(a[2:] - a[:2])


def assign_by_loops(boxes, labels, ignore):
    """Returns the index of the ground-truth box of each anchor, -1 for background or -2 for neither."""
    real = [g for g in range(len(boxes)) if labels[g] >= 0 and not ignore[g]]
    crowd = [g for g in range(len(boxes)) if labels[g] >= 0 and ignore[g]]
    table = {(n, g): iou_and_fraction_inside(ANCHORS[n], boxes[g])[0] for n in range(COUNT) for g in real}
    best_of = {g: max(table[n, g] for n in range(COUNT)) for g in real}
    assigned = []
    for n in range(COUNT):
        best = max(real, key=lambda g, n=n: table[n, g], default=None)
        is_best = best is not None and any(table[n, g] >= best_of[g] * (1 - 1e-6) > 0 for g in real)
        if best is not None and (table[n, best] >= 0.5 or is_best):
            assigned.append(best)
        else:
            assigned.append(-2 if any(iou_and_fraction_inside(ANCHORS[n], boxes[g])[1] > 0.5 for g in crowd) else -1)
    return assigned


def losses_by_loops(raw, targets, loss):
    """Computes the losses of google/automl: focal over all, Huber over the positives, divided by positives + 1."""
    classes = boxes = positives = 0.0
    for b in range(len(raw["box_deltas"])):
        assigned = assign_by_loops(*(targets[key][b] for key in ("boxes", "labels", "ignore")))
        for n, g in enumerate(assigned):
            for k in range(len(NAMES)) if g > -2 else ():
                p = 1 / (1 + np.exp(-np.float64(raw["class_logits"][b, n, k])))
                if g >= 0 and targets["labels"][b, g] == k:
                    classes -= loss.focal_alpha * (1 - p) ** loss.focal_gamma * np.log(p)
                else:
                    classes -= (1 - loss.focal_alpha) * p**loss.focal_gamma * np.log(1 - p)
            if g >= 0:
                positives += 1
                anchor, box = ANCHORS[n].astype(float), targets["boxes"][b, g].astype(float)
                sides, true_sides = anchor[2:] - anchor[:2], box[2:] - box[:2]
                deltas = [*((box[:2] + true_sides / 2 - anchor[:2] - sides / 2) / sides), *np.log(true_sides / sides)]
                for error in np.abs(np.array(deltas) - raw["box_deltas"][b, n]):
                    d = loss.huber_delta
                    boxes += loss.box_weight / 4 * (0.5 * error**2 if error <= d else d * (error - 0.5 * d))
    return boxes / (positives + 1), classes / (positives + 1), positives


@pytest.mark.parametrize("loss", [AnchorLoss(), AnchorLoss(focal_alpha=0.4, focal_gamma=2.0, huber_delta=1.0)])
def test_losses_equal_a_loop_implementation(loss):
    _, targets = random_batch(batch=2, boxes=6, seed=4)
    targets["ignore"][:, 0] = 1
    raw = random_raw(2)
    box_loss, class_loss, positives = losses_by_loops(raw, targets, loss)
    assert positives > 20
    objective = AnchorObjective(OBJECTIVE.anchors, loss=loss)
    losses = objective.compute_losses(raw, targets, objective.generate_anchors(SIDES))
    assert float(losses["box_loss"]) == pytest.approx(box_loss, rel=1e-4)
    assert float(losses["class_loss"]) == pytest.approx(class_loss, rel=1e-4)


def degenerate_targets(kind):
    _, targets = random_batch(batch=2, boxes=120 if kind == "120 boxes" else 4, seed=1)
    if kind == "no boxes":
        targets["labels"][:] = -1
    if kind == "empty boxes":
        targets["boxes"][..., 2:] = targets["boxes"][..., :2]
    if kind == "all ignored":
        targets["ignore"][:] = 1
    if kind == "NaN in padding":
        targets["labels"][:, 1:] = -1
        targets["boxes"][:, 1:] = np.nan
    return targets


@pytest.mark.parametrize("kind", ["no boxes", "empty boxes", "all ignored", "120 boxes", "NaN in padding"])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_loss_and_gradients_are_finite_for_degenerate_targets(kind, scale):
    raw = {key: tf.Variable(scale * value) for key, value in random_raw(2).items()}
    with tf.GradientTape() as tape:
        losses = OBJECTIVE.compute_losses(raw, degenerate_targets(kind), OBJECTIVE.generate_anchors(SIDES))
        total = sum(losses.values())
    assert np.isfinite(total)
    for key, gradient in tape.gradient(total, raw, unconnected_gradients="zero").items():
        assert np.all(np.isfinite(gradient)), key


def test_outputs_that_encode_the_ground_truth_decode_to_it():
    boxes = np.float32([[3, 2, 17, 16], [20, 1, 60, 22], [5, 25, 18, 60], [30, 30, 62, 46], [0, 0, 64, 64]])
    labels = np.int32([0, 1, 2, 0, 1])
    raw = {key: np.full_like(value, -12.0) for key, value in random_raw(1).items()}
    for box, label in zip(boxes, labels, strict=True):
        n = max(range(COUNT), key=lambda n, box=box: iou_and_fraction_inside(ANCHORS[n], box)[0])
        raw["box_deltas"][0, n] = OBJECTIVE.coding.encode(box[None], ANCHORS[n][None])[0]
        raw["class_logits"][0, n, label] = 12.0
    selected = select_detections(
        OBJECTIVE.decode_boxes(raw["box_deltas"], OBJECTIVE.generate_anchors(SIDES)),
        OBJECTIVE.decode_scores(raw),
        SelectSpec(score_threshold=0.5),
    )
    assert int(selected["count"][0]) == 5
    order, true_order = np.lexsort(np.asarray(selected["boxes"])[0, :5].T), np.lexsort(boxes.T)
    np.testing.assert_allclose(selected["boxes"].numpy()[0, order], boxes[true_order], atol=1e-2)
    np.testing.assert_array_equal(selected["labels"].numpy()[0, order], labels[true_order])


def test_anchors_of_a_dynamic_image_size_are_the_same():
    fitted = AnchorObjective(PyramidAnchors.octaves((8, 16, 32), offset=0.5, fitted=True))
    generate = tf.function(fitted.generate_anchors, input_signature=[(tf.TensorSpec((), tf.int32),) * 2])
    for size in ((64, 64), (45, 70)):
        np.testing.assert_array_equal(generate(size), fitted.anchors.generate(size))


def test_keras_restores_the_objective():
    config = keras.saving.serialize_keras_object(OBJECTIVE)
    assert keras.saving.deserialize_keras_object(config) == OBJECTIVE


def test_predictions_for_another_number_of_anchors_are_refused():
    """Such as those of a network with one level more."""
    raw = {key: np.concatenate([value, value], axis=1) for key, value in random_raw(2).items()}
    _, targets = random_batch(batch=2)
    with pytest.raises(ValueError, match=rf"Expected predictions for {COUNT} anchors, got {2 * COUNT}\. Predict on"):
        OBJECTIVE.compute_losses(raw, targets, ANCHORS)
