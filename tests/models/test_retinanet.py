"""RetinaNet: published cost, anchors, trained weights, weights files."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_detector import NAMES

import keras_lightdet
from keras_lightdet.analysis import cost
from keras_lightdet.backbones import MobileSpineNet
from keras_lightdet.backbones.mobile_spinenet import MOBILE_SPINENET
from keras_lightdet.errors import WeightsError
from keras_lightdet.weights import save_weights

SIDE = 128
slow = pytest.mark.slow
# Trainable parameters, billions of multiply-adds, and the authors' figures in millions and billions. The released
# code's 49S has a pyramid of 128 channels, which nothing published is counted with; mobile: their own table's.
SIZES = [
    pytest.param("spinenet49s", {"out_width": 256}, 11_944_598, 33.745, 11.9, 33.8, id="49s", marks=slow),
    pytest.param("spinenet49s", {}, 11_265_942, 30.779, None, None, id="49s_code", marks=slow),
    pytest.param("spinenet49", {}, 28_543_383, 85.282, 28.5, 85.4, id="49"),
    pytest.param("spinenet96", {}, 42_974_871, 265.0, 43.0, 265.4, id="96", marks=slow),
    pytest.param("spinenet143", {}, 66_959_511, 523.3, 67.0, 524.0, id="143", marks=slow),
    pytest.param("spinenet190", {}, 163_637_351, 1881.7, 163.6, 1885.0, id="190", marks=slow),
    pytest.param("resnet50_fpn", {}, 34_091_159, 96.88, 34.0, 97.0, id="resnet50", marks=slow),
    pytest.param("resnet101_fpn", {}, 53_083_287, 325.6, 53.1, 326.3, id="resnet101", marks=slow),
    pytest.param("mobile_spinenet49", {}, 2_337_579, 0.981, 2.34, 1.0, id="mobile49", marks=slow),
]


def small_retinanet(**options):
    """Builds the smallest variant at the smallest size."""
    size = {"variant": "mobile_spinenet49xs", "input_shape": (SIDE, SIDE, 3)}
    return keras_lightdet.RetinaNet(**{**size, "class_names": NAMES, **options})


@pytest.mark.parametrize(("variant", "options", "parameters", "macs", "millions", "billions"), SIZES)
def test_variants_have_the_published_cost(variant, options, parameters, macs, millions, billions):
    counts = cost(keras_lightdet.RetinaNet(variant=variant, **options))
    assert counts.trainable_parameters == parameters
    assert counts.macs / 1e9 == pytest.approx(macs, rel=5e-4)
    assert not counts.uncounted
    if millions is not None:
        assert parameters / 1e6 == pytest.approx(millions, rel=5e-3)
        assert macs == pytest.approx(billions, rel=5e-3 if "mobile" not in variant else 2e-2)


# 80 classes, as other implementations of SpineNet's RetinaNet count: 28.31 M of yan-roo's, 11.15 M of lucifer443's.
def test_parameters_follow_the_classes():
    assert cost(small_retinanet(class_names=None, num_classes=80)).trainable_parameters == 872_711 - 11 * 9 * 25


def test_anchors_are_in_the_order_of_the_outputs():
    """The first cell, a cell of the next row and one of the next level: centered anchors of 3 strides and more."""
    model = small_retinanet()
    anchors = np.array(model.objective.generate_anchors((SIDE, SIDE)))
    assert anchors.shape == (9 * sum((SIDE // stride) ** 2 for stride in (8, 16, 32, 64, 128)), 4)
    assert model(np.zeros((1, SIDE, SIDE, 3)))["box_deltas"].shape == (1, len(anchors), 4)
    for index, center, stride in ((0, (4, 4), 8), (9 * 16, (4, 12), 8), (9 * 256, (8, 8), 16)):
        corners = anchors[index : index + 9].reshape(9, 2, 2)
        np.testing.assert_allclose(corners.mean(axis=1), np.tile(center, (9, 1)), atol=1e-4)
        areas = np.sort((corners[:, 1] - corners[:, 0]).prod(axis=-1))
        wanted = np.sort([(3 * stride * 2 ** (k / 3)) ** 2 for k in range(3) for _ in range(3)])
        np.testing.assert_allclose(areas, wanted, rtol=1e-4)


def test_every_weight_is_trained():
    """Except behind a dead ReLU: squeeze-and-excitation has only one or two hidden channels."""
    keras.utils.set_random_seed(0)
    model = small_retinanet()
    images = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3)).astype("float32")
    with tf.GradientTape() as tape:
        loss = tf.add_n([tf.reduce_sum(tf.square(x - 1.0)) for x in model(images, training=True).values()])
    gradients = tape.gradient(loss, model.trainable_variables)
    dead = [
        v.path
        for v, g in zip(model.trainable_variables, gradients, strict=True)
        if g is None or not np.all(np.isfinite(g)) or not (np.any(g) or "_squeeze_" in v.path)
    ]
    assert not dead


def test_weights_restore_the_detector(tmp_path):
    blocks = list(MOBILE_SPINENET)
    blocks[3] = blocks[3]._replace(parents=(1, 4))  # 3 and 4 in the paper's
    model = small_retinanet(drop_path_rate=0.1, activation="relu", blocks=blocks)
    path = save_weights(model, tmp_path / "small.weights.h5")
    again = keras_lightdet.RetinaNet(weights=path)
    images = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3)).astype("uint8")
    for key, value in model(images).items():
        np.testing.assert_array_equal(again(images)[key], value)
    assert again.class_names == NAMES
    assert again.input_size == (SIDE, SIDE)
    joined = {
        layer.name for layer in again.network.get_layer("backbone").layers if layer.name.startswith("block5_from")
    }
    assert {name.split("_")[1] for name in joined} == {"from1", "from4"}
    with pytest.raises(WeightsError, match="variant"):
        keras_lightdet.RetinaNet(weights=path, variant="spinenet49")


@slow
def test_training_starts_from_a_classifier(tmp_path):
    classifier = MobileSpineNet(variant="49xs", num_classes=5)
    path = save_weights(classifier, tmp_path / "net.weights.h5")
    backbone = small_retinanet(weights_backbone=path).network.get_layer("backbone")
    for layer in backbone.layers:
        for actual, expected in zip(layer.get_weights(), classifier.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "spinenet50"}, "variant to be one of .*'spinenet49s'"),
        ({"input_shape": (128, 128, 1)}, "input_shape"),
        ({"out_width": 64}, "out_width to be None, got 64: mobile_spinenet49xs has none"),
        ({"variant": "resnet50_fpn", "blocks": ()}, "blocks to be None"),
        (
            {"variant": "resnet50_fpn", "drop_path_rate": 0.2},
            "drop_path_rate to be 0.0, got 0.2: resnet50",
        ),
        ({"num_classes": 4}, "4 class_names, got 3"),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        small_retinanet(**options)
