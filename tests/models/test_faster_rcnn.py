"""Faster R-CNN: published counts and settings, trained weights, weights files."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_detector import NAMES, SIDE, random_batch, small_faster_rcnn

import keras_lightdet
from keras_lightdet.analysis import cost
from keras_lightdet.boxes import SampleSpec
from keras_lightdet.errors import WeightsError
from keras_lightdet.weights import load_trunk, save_weights

EVERYTHING = SampleSpec(4000, 1.0)
BACKGROUND_BOX = 4 * (1024 + 1)  # torchvision's kernel and bias for the box of the background, which is left out here


def count(variables):
    return sum(int(np.prod(variable.shape)) for variable in variables)


def test_parameters_are_torchvisions_published_ones():
    """torchvision states 41,755,286, without its frozen batch norms."""
    counts = cost(keras_lightdet.FasterRCNN())
    assert counts.parameters + BACKGROUND_BOX == 41_755_286
    assert counts.uncounted == ()


def test_cost_is_mmdetections():
    """MMDetection prints 41.53 M, without the frozen stem and stage, and 207 G."""
    model = keras_lightdet.FasterRCNN(variant="mmdetection")
    assert count(model.trainable_weights) == 41_527_712
    assert model.num_classes == 80 and model.input_size == (800, 1280)
    counts = cost(model)
    assert counts.macs == pytest.approx(206.3e9, rel=0.005)
    parts = {"backbone": 83.4, "fpn": 58.0, "rpn": 50.6, "region": 14.3}  # G, by hand from the layer tables
    for start, expected in parts.items():
        macs = sum(layer.macs for layer in counts.layers if layer.name.startswith(start))
        assert macs / 1e9 == pytest.approx(expected, rel=0.005), start


def test_variants_differ_in_the_settings_of_their_code_bases():
    models = {name: small_faster_rcnn(variant=name) for name in ("torchvision", "mmdetection")}
    settings = {
        name: (
            m.proposal_objective.train.post_nms_top_k,
            m.proposal_objective.beta,
            m.region_objective.beta,
            m.roi_align.options["aligned"],
        )
        for name, m in models.items()
    }
    assert settings == {"torchvision": (2000, 1 / 9, 1 / 9, False), "mmdetection": (1000, 0.0, 0.0, True)}
    shapes = [m.proposal_objective.anchors.generate((64, 64))[:3] for m in models.values()]
    np.testing.assert_array_equal(shapes[0], np.round(shapes[0]))
    np.testing.assert_allclose(shapes[1][0], np.array([-1, -0.5, 1, 0.5]) * 32 / np.sqrt(2), rtol=1e-5)
    with pytest.raises(ValueError, match="mmdetection.*torchvision"):
        keras_lightdet.FasterRCNN(variant="detectron")


def gradients_of(model):
    """Returns gradients of the loss of all anchors and regions, so that they depend on no random sample."""
    model.proposal_objective = dataclasses.replace(model.proposal_objective, sample=EVERYTHING)
    model.region_objective = dataclasses.replace(model.region_objective, sample=EVERYTHING)
    images, targets = random_batch(boxes=8)
    with tf.GradientTape() as tape:
        loss = sum(model.compute_losses(images, targets, training=True).values())
    gradients = tape.gradient(loss, model.trainable_weights)
    return {w.path: g for w, g in zip(model.trainable_weights, gradients, strict=True)}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"variant": "mmdetection", "trainable_stages": 3, "batch_norm": "affine"},
        {"trainable_stages": 3, "batch_norm": "frozen"},
    ],
)
def test_every_weight_that_is_not_frozen_is_trained(options):
    keras.utils.set_random_seed(1)
    gradients = gradients_of(small_faster_rcnn(**options))
    assert not [path for path, g in gradients.items() if g is None or not np.all(np.isfinite(g))]
    assert not [path for path, g in gradients.items() if not np.any(g)]
    frozen = "trainable_stages" in options
    assert any("stem" in path for path in gradients) != frozen
    assert any("stage2" in path for path in gradients) != frozen
    assert any("_bn/gamma" in path for path in gradients) == (options.get("batch_norm") != "frozen")


def test_outputs_match_anchors_at_odd_sizes():
    """Cells at the border, which the image covers in part, have anchors and outputs."""
    keras.utils.set_random_seed(5)
    size = (61, 139)
    model = small_faster_rcnn(input_shape=(*size, 3))
    outputs = model.rpn(random_batch(batch=1)[0][:, :1, :1].repeat(61, 1).repeat(139, 2).astype("float32"))
    anchors = model.proposal_objective.anchors
    assert outputs["objectness"].shape[1] == outputs["rpn_deltas"].shape[1] == len(anchors.generate(size))
    rows = {level: x.shape[1:3] for level, x in outputs["features"].items()}
    expected = {"P2": (16, 35), "P3": (8, 18), "P4": (4, 9), "P5": (2, 5)}
    assert rows == expected
    cells = [height * width for height, width in (*expected.values(), (1, 3))]
    assert anchors.level_counts(size) == tuple(3 * count for count in cells)


def test_the_default_freezes_the_same_layers_as_torchvision():
    model = keras_lightdet.FasterRCNN(3, (SIDE, SIDE, 3), depth=18, width=8, head_width=16)
    names = {weight.path for weight in model.trainable_weights}
    assert not [name for name in names if "_bn/" in name or "stem" in name or "stage2" in name]
    assert {"stage3_block1_spatial1_conv/kernel", "fpn_p2_out/bias", "hidden1/kernel"} <= names


@pytest.mark.slow
def test_training_lowers_the_loss():
    keras.utils.set_random_seed(2)
    model = small_faster_rcnn()
    model.compile(keras.optimizers.Adam(1e-3))
    batch = random_batch(boxes=3)
    history = [model.train_on_batch(*batch, return_dict=True)["loss"] for _ in range(12)]
    assert np.all(np.isfinite(history))
    assert np.mean(history[-3:]) < 0.8 * history[0]


def test_weights_are_restored_and_their_trunk_loads_for_other_classes(tmp_path):
    keras.utils.set_random_seed(3)
    model = small_faster_rcnn(variant="mmdetection")
    path = save_weights(model, tmp_path / "a.weights.h5")
    again = keras_lightdet.FasterRCNN(weights=path)
    assert again.class_names == NAMES
    assert again.architecture == model.architecture
    assert len(again.trainable_weights) == len(model.trainable_weights)
    images = random_batch()[0].astype("float32")
    for key, value in model(images).items():
        np.testing.assert_allclose(again(images)[key], value, atol=1e-5)
    with pytest.raises(WeightsError, match="num_classes"):
        keras_lightdet.FasterRCNN(5, weights=path)
    other = small_faster_rcnn(class_names=("a", "b", "c"))
    class_weights = {layer.name: layer.get_weights() for layer in other.class_layers()}
    load_trunk(other, path)
    assert set(class_weights) == {"regions_class", "regions_box_of_class"}
    for layer in other.class_layers():
        np.testing.assert_array_equal(layer.kernel, class_weights[layer.name][0])
    np.testing.assert_array_equal(other.rpn.get_layer("fpn_p2_out").kernel, model.rpn.get_layer("fpn_p2_out").kernel)
