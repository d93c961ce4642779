import keras
import numpy as np
import pytest
import tensorflow as tf
from small_detector import NAMES, random_batch, small_rsanet

import keras_lightdet
from keras_lightdet.analysis import cost, receptive_field
from keras_lightdet.errors import WeightsError
from keras_lightdet.weights import load_trunk, save_weights


def conv_weights(model):
    """Counts weights of convolutions and biases of heads, without batch norm, as the published 3.24 M."""
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    return count(model.trainable_weights) - count(sum((layer.trainable_weights for layer in norms), []))


def count(variables):
    return sum(int(np.prod(variable.shape)) for variable in variables)


# Paper: 3.24 M. The others are the readings A, A at 80 classes, A with stage 5 of 640 and A with concatenation,
# counted by hand from the layer tables (conv weights + head bias, in thousands).
@pytest.mark.parametrize(
    ("options", "thousands"),
    [
        ({}, 3242),
        ({"variant": "coco"}, 3404),
        ({"variant": "coco", "widths": (32, 64, 128, 256, 640)}, 4393),
        ({"dsm": "concat"}, 3416),
        ({"variant": "coco", "repeats": (1, 1, 2, 5, 5)}, 4335),
    ],
)
def test_readings_of_the_paper_have_the_counted_weights(options, thousands):
    assert round(conv_weights(keras_lightdet.RSANet(**options)) / 1000) == thousands


def test_voc_cost_is_the_published_one():
    model = keras_lightdet.RSANet()
    counts = cost(model)
    assert count(model.trainable_weights) == 3_276_769
    assert counts.macs == pytest.approx(1.722e9, rel=5e-4)
    # The paper's 3.54 B FLOPs seem to count element-wise work too; twice the convolutions' MACs are 2.7 % fewer.
    assert 2 * counts.macs == pytest.approx(3.54e9, rel=0.03)


def test_receptive_fields_are_those_of_the_layer_table():
    backbone = keras_lightdet.backbones.LCNet()
    layers = {"stage1_stem_conv": 3, "stage3_ccm2_add": 103, "stage4_ccm6_add": 503, "stage5_ccm3_add": 919}
    assert {name: receptive_field(backbone, name)[0] for name in layers} == layers


def test_backbone_returns_features():
    features = keras_lightdet.backbones.LCNet((64, 96, 3), widths=(4, 4, 8, 16, 24))(np.zeros((2, 64, 96, 3)))
    assert {level: tuple(x.shape) for level, x in features.items()} == {
        "P3": (2, 8, 12, 8),
        "P4": (2, 4, 6, 16),
        "P5": (2, 2, 3, 24),
    }


def test_outputs_are_in_the_order_of_the_anchors():
    """Row by row, cell by cell, anchor by anchor: as `GridAnchors.generate` counts them."""
    keras.utils.set_random_seed(3)
    model = small_rsanet()
    image = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3))
    raw = model(image)
    first = 0
    for level, cells in (("p3", 8), ("p4", 4), ("p5", 2)):
        parts = (("objectness", "objectness", 1), ("box", "box_deltas", 4), ("class", "class_logits", 3))
        for part, key, depth in parts:
            layer = model.network.get_layer(f"{level}_{part}")
            grid = keras.Model(model.network.inputs, layer.output)(image)[0]
            row, column, anchor = cells - 1, cells // 2 - 1, 2
            index = first + 3 * (cells * row + column) + anchor
            expected = grid[row, column, depth * anchor : depth * (anchor + 1)]
            np.testing.assert_allclose(np.ravel(raw[key][0, index]), expected, rtol=1e-4, atol=1e-6)
        first += 3 * cells**2


def test_initial_objectness_is_the_prior():
    raw = small_rsanet()(np.zeros((1, 64, 64, 3)))
    np.testing.assert_allclose(tf.sigmoid(raw["objectness"]), 0.01, rtol=0.2)


@pytest.mark.parametrize("options", [{"rsam": False}, {"dsm": "concat"}, {"activation": "relu6"}])
def test_ablations_train_every_weight(options):
    anchors = [[[5, 5], [8, 8]], [[12, 12], [16, 16]], [[22, 22], [28, 28]]]  # every level has positive anchors
    model = small_rsanet(anchors=anchors, **options)
    images, targets = random_batch(boxes=12)
    with tf.GradientTape() as tape:
        loss = sum(model.compute_losses(images, targets, training=True).values())
    gradients = tape.gradient(loss, model.trainable_weights)
    names = [w.path for w, g in zip(model.trainable_weights, gradients, strict=True) if g is None or not np.any(g)]
    assert not names
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


@pytest.mark.parametrize(
    "options",
    [
        {"variant": "lite"},
        {"input_shape": (100, 64, 3)},
        {"num_classes": 2},
        {"dsm": "max"},
        {"widths": (4, 8)},
        {"anchors": [[[1, 2]]]},
    ],
)
def test_arguments_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="Expected"):
        small_rsanet(**options)


def test_weights_restore_the_detector(tmp_path):
    keras.utils.set_random_seed(0)
    anchors = [[[5, 6], [7, 8]], [[9, 10], [11, 12]], [[13, 14], [15, 16]]]
    model = small_rsanet(anchors=anchors, rsam=False, activation="relu")
    path = save_weights(model, tmp_path / "best.weights.h5")
    restored = keras_lightdet.RSANet(weights=path)
    assert restored.class_names == NAMES
    assert restored.input_size == (64, 64)
    assert restored.objective.anchors == model.objective.anchors
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3))
    np.testing.assert_array_equal(restored(image)["box_deltas"], model(image)["box_deltas"])


def test_a_larger_input_scales_the_anchors_of_the_weights(tmp_path):
    model = small_rsanet()
    path = save_weights(model, tmp_path / "best.weights.h5")
    larger = keras_lightdet.RSANet(weights=path, input_shape=(128, 128, 3))
    np.testing.assert_allclose(larger.objective.anchors.sizes, 2 * np.array(model.objective.anchors.sizes))


@pytest.mark.parametrize(
    "argument", [{"num_classes": 5}, {"widths": (8, 8, 8, 8, 8)}, {"class_names": ["a", "b", "c"]}]
)
def test_contradicting_weights_are_refused_with_the_cure(tmp_path, argument):
    path = save_weights(small_rsanet(), tmp_path / "best.weights.h5")
    with pytest.raises(WeightsError, match="load_trunk"):
        keras_lightdet.RSANet(weights=path, **argument)


def test_trunk_is_loaded_for_other_classes(tmp_path):
    source = small_rsanet()
    path = save_weights(source, tmp_path / "best.weights.h5")
    other = small_rsanet(class_names=("cat", "dog"))
    before = [layer.get_weights()[0] for layer in other.class_layers()]
    load_trunk(other, path)
    np.testing.assert_array_equal(
        other.network.get_layer("p4_box").get_weights()[0], source.network.get_layer("p4_box").get_weights()[0]
    )
    for layer, kernel in zip(other.class_layers(), before, strict=True):
        np.testing.assert_array_equal(layer.get_weights()[0], kernel)
