"""TwoStageDetector: losses of both stages against loops, gradients between them, inference stages."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from reference_loops import iou
from small_detector import SIDE, random_batch, small_thundernet

import keras_lightdet
from keras_lightdet.boxes import DeltaCoding, OhemSpec, PyramidAnchors, SampleSpec
from keras_lightdet.detection import ProposalObjective, RegionObjective
from keras_lightdet.weights import save_weights

EVERYTHING = SampleSpec(4000, 1.0)
SEED = tf.constant([0, 0])


def encode(box, anchor, weights):
    (x, y, w, h), (ax, ay, aw, ah) = (
        ((b[0] + b[2]) / 2, (b[1] + b[3]) / 2, b[2] - b[0], b[3] - b[1]) for b in (box, anchor)
    )
    return np.array([(x - ax) / aw, (y - ay) / ah, np.log(w / aw), np.log(h / ah)]) * weights


def smooth_l1(difference, beta):
    difference = np.abs(difference)
    return np.sum(np.where(difference < beta, difference**2 / (2 * beta), difference - beta / 2))


def random_targets(seed=0, boxes=4, batch=2):
    targets = random_batch(batch=batch, boxes=boxes, seed=seed)[1]
    targets["labels"][:, 0] = 1  # at least one real object in each image
    targets["ignore"][:] = 0
    return targets


def test_proposal_losses_equal_a_loop_implementation():
    generator = PyramidAnchors((16,), ((16, 32),), (0.5, 1.0, 2.0), offset=0.5)
    anchors, targets = generator.generate((SIDE, SIDE)), random_targets()
    random = np.random.default_rng(1)
    raw = {
        "objectness": random.normal(0, 2, (2, len(anchors))).astype("float32"),
        "rpn_deltas": random.normal(0, 1, (2, len(anchors), 4)).astype("float32"),
    }
    objective = ProposalObjective(generator, sample=EVERYTHING)
    losses = objective.compute_losses(raw, targets, tf.constant(anchors), SEED)
    objectness, boxes, counted = 0.0, 0.0, 0
    for image in range(2):
        real = [box for box, k in zip(targets["boxes"][image], targets["labels"][image], strict=True) if k >= 0]
        overlaps = np.array([[iou(anchor, box) for box in real] for anchor in anchors])
        best = overlaps.max(0)
        for index, anchor in enumerate(anchors):
            nearest = overlaps[index].max()
            positive = nearest >= 0.7 or np.any((overlaps[index] >= best - 1e-6) & (best > 0))
            if not positive and nearest >= 0.3:
                continue
            logit = float(raw["objectness"][image, index])
            objectness += np.logaddexp(0, -logit if positive else logit)
            counted += 1
            if positive:
                deltas = encode(real[overlaps[index].argmax()], anchor, np.ones(4))
                boxes += smooth_l1(deltas - raw["rpn_deltas"][image, index], 1 / 9)
    assert counted > 20
    assert float(losses["objectness_loss"]) == pytest.approx(objectness / counted, rel=1e-4)
    assert float(losses["rpn_box_loss"]) == pytest.approx(boxes / counted, rel=1e-4)


def proposals_for(targets, seed=0):
    """Returns ground-truth boxes with random offsets; some proposals are not valid."""
    random = np.random.default_rng(seed)
    boxes = np.repeat(targets["boxes"], 6, axis=1) + random.normal(0, 4, (2, 24, 4))
    boxes = np.clip(np.concatenate([boxes[..., :2], np.maximum(boxes[..., 2:], boxes[..., :2] + 2)], -1), 0, SIDE)
    return {"boxes": boxes.astype("float32"), "valid": np.arange(24) % 5 > 0 | np.zeros((2, 1), bool)}


@pytest.mark.parametrize("per_class", [False, True])
def test_region_losses_equal_a_loop_implementation(per_class):
    targets, random = random_targets(seed=3), np.random.default_rng(4)
    objective = RegionObjective(sample=EVERYTHING)
    regions = objective.sample_regions(proposals_for(targets), targets, SEED)
    shape = (2, regions["rois"].shape[1])
    raw = {
        "class_logits": random.normal(0, 2, (*shape, 4)).astype("float32"),
        "box_deltas": random.normal(0, 1, (*shape, *([3, 4] if per_class else [4]))).astype("float32"),
    }
    losses = objective.compute_losses(raw, regions, targets)
    classes, boxes, counted, positives = 0.0, 0.0, 0, 0
    for image in range(2):
        real = [
            (box, int(k)) for box, k in zip(targets["boxes"][image], targets["labels"][image], strict=True) if k >= 0
        ]
        for index, roi in enumerate(np.array(regions["rois"][image])):
            if regions["assigned"][image, index] == -2:
                continue
            overlaps = [iou(roi, box) for box, _ in real]
            box, label = real[int(np.argmax(overlaps))]
            positive = max(overlaps) >= 0.5
            logits = raw["class_logits"][image, index].astype(float)
            classes += np.logaddexp.reduce(logits) - logits[label if positive else 3]
            counted += 1
            if positive:
                predicted = raw["box_deltas"][image, index]
                predicted = predicted[label] if per_class else predicted
                boxes += smooth_l1(encode(box, roi, np.array([10, 10, 5, 5])) - predicted, 1.0)
                positives += 1
    assert 5 < positives < counted
    assert float(losses["class_loss"]) == pytest.approx(classes / counted, rel=1e-4)
    assert float(losses["box_loss"]) == pytest.approx(boxes / counted, rel=1e-4)


def test_ground_truth_boxes_are_among_the_regions_and_padding_is_not_counted():
    targets = random_targets(seed=5)
    targets["labels"][:, 2:] = -1
    regions = RegionObjective(sample=EVERYTHING).sample_regions(proposals_for(targets), targets, SEED)
    counted = np.array(regions["assigned"]) >= -1
    assert counted.sum() == 2 * (np.sum(np.arange(24) % 5 > 0) + 1) + np.sum(targets["labels"][:, 1] >= 0)
    for image in range(2):
        rois = np.array(regions["rois"][image])[counted[image]]
        assert np.any(np.all(np.abs(rois - targets["boxes"][image, 0]) < 1e-4, axis=-1))


def test_ohem_counts_the_regions_with_the_largest_losses_only():
    targets, random = random_targets(seed=6), np.random.default_rng(7)
    without_ohem, with_ohem = RegionObjective(sample=EVERYTHING), RegionObjective(sample=OhemSpec(5))
    proposals = proposals_for(targets)
    regions = with_ohem.sample_regions(proposals, targets, SEED)
    logits = random.normal(0, 2, (2, regions["rois"].shape[1], 4)).astype("float32")
    exact = DeltaCoding().encode(
        np.take_along_axis(targets["boxes"], np.maximum(regions["assigned"], 0)[..., None], 1), regions["rois"]
    )
    raw = {"class_logits": logits, "box_deltas": np.array(exact)}  # the box loss is 0, so OHEM ranks by the class loss
    labels = np.where(
        np.array(regions["assigned"]) >= 0,
        np.take_along_axis(targets["labels"], np.maximum(regions["assigned"], 0), 1),
        3,
    )
    terms = np.logaddexp.reduce(logits, -1) - np.take_along_axis(logits, labels[..., None], -1)[..., 0]
    terms[np.array(regions["assigned"]) < -1] = -1
    expected = np.sort(terms, axis=1)[:, -5:].mean()
    assert float(with_ohem.compute_losses(raw, regions, targets)["class_loss"]) == pytest.approx(expected, rel=1e-4)
    assert float(without_ohem.compute_losses(raw, regions, targets)["class_loss"]) < 0.9 * expected


def gradients_of(model, losses):
    images, targets = random_batch(boxes=8)
    with tf.GradientTape() as tape:
        values = model.compute_losses(images, targets, training=True)
        loss = sum(values[name] for name in losses)
    gradients = tape.gradient(loss, model.trainable_weights)
    return {w.path: g for w, g in zip(model.trainable_weights, gradients, strict=True)}


@pytest.mark.parametrize("attention", [True, False])
def test_the_second_stage_trains_the_proposal_trunk_through_attention_only(attention):
    """Section 3.3: gradients of the second stage reach the proposal network through spatial attention."""
    keras.utils.set_random_seed(0)
    model = small_thundernet(attention=attention)
    gradients = gradients_of(model, model.region_objective.loss_names)
    trunk = [g for path, g in gradients.items() if path.startswith(("rpn_depthwise_conv/", "rpn_pointwise_conv/"))]
    assert len(trunk) == 2
    assert all((g is not None and bool(np.any(g))) == attention for g in trunk)
    assert np.any(next(g for path, g in gradients.items() if "cem_c4/kernel" in path))


@pytest.mark.parametrize(
    "options", [{}, {"context": False}, {"rpn": "full"}, {"kernel_size": 3}, {"variant": "snet49"}, {"unit": "keep"}]
)
def test_each_weight_has_a_gradient(options):
    keras.utils.set_random_seed(1)
    model = small_thundernet(**options)
    # All anchors and regions, so that no gradient depends on the sample.
    model.proposal_objective = dataclasses.replace(model.proposal_objective, sample=EVERYTHING)
    model.region_objective = dataclasses.replace(model.region_objective, sample=EVERYTHING)
    gradients = gradients_of(model, ("objectness_loss", "rpn_box_loss", "class_loss", "box_loss"))
    assert not [path for path, g in gradients.items() if g is None or not np.all(np.isfinite(g))]
    zero = [path for path, g in gradients.items() if not np.any(g)]
    assert not zero


def test_fit_lowers_the_loss_and_weights_are_restored(tmp_path):
    keras.utils.set_random_seed(0)
    model = small_thundernet()
    model.compile(keras.optimizers.Adam(3e-3, global_clipnorm=5.0, use_ema=True))
    data = tf.data.Dataset.from_tensors(random_batch(boxes=8)).repeat(8)
    history = model.fit(data, epochs=2, verbose=0).history
    assert history["loss"][1] < 0.8 * history["loss"][0]
    assert set(history) == {"loss", "objectness_loss", "rpn_box_loss", "class_loss", "box_loss"}
    restored = keras_lightdet.ThunderNet(weights=save_weights(model, tmp_path / "best.weights.h5"))
    image = random_batch(batch=1)[0]
    np.testing.assert_array_equal(restored(image)["class_logits"], model(image)["class_logits"])


def test_samples_depend_on_the_step_only():
    model = small_thundernet()
    model.compile(keras.optimizers.SGD(0.0))
    model.proposal_objective = dataclasses.replace(model.proposal_objective, sample=SampleSpec(16, 0.5))
    kernel = model.rpn.get_layer("rpn_object").kernel
    kernel.assign(tf.random.stateless_normal(kernel.shape, SEED))  # different logits
    batch = random_batch(boxes=8)
    first, again = (model.compute_losses(*batch, training=False) for _ in range(2))
    model.optimizer.iterations.assign(5)
    later = model.compute_losses(*batch, training=False)
    assert all(float(first[name]) == float(again[name]) for name in first)
    assert float(later["objectness_loss"]) != float(first["objectness_loss"])


def test_inference_stages_in_sequence_equal_call():
    keras.utils.set_random_seed(2)
    model = small_thundernet()
    images = tf.random.stateless_uniform((1, SIDE, SIDE, 3), SEED, 0, 255)
    values = {"images": images}
    for stage in model.inference_stages():
        values |= stage.function({name: values[name] for name in stage.inputs})
    for name, value in model(images).items():
        np.testing.assert_allclose(values[name], value, rtol=1e-4, atol=1e-4)


def test_invalid_proposals_have_score_zero():
    objective = RegionObjective()
    raw = {
        "rois": tf.constant([[[0.0, 0, 10, 10], [5, 5, 20, 20]]]),
        "valid": tf.constant([[1.0, 0.0]]),
        "class_logits": tf.constant([[[3.0, 0, 0], [9, 0, 0]]]),
        "box_deltas": tf.zeros((1, 2, 4)),
    }
    boxes, scores = objective.decode(raw)
    np.testing.assert_allclose(boxes, raw["rois"], atol=1e-5)
    np.testing.assert_allclose(scores[0, 0], np.exp([3.0, 0]) / (np.exp(3.0) + 2), rtol=1e-5)
    np.testing.assert_array_equal(scores[0, 1], 0)
