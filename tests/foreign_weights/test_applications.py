"""Outputs against those of `keras.applications`: random weights, features and logits, even and odd sizes."""

import keras
import numpy as np
import pytest
from torch_tensors import CLASSES, SIZES, draw_image

from keras_lightdet.backbones import MobileNetV2
from keras_lightdet.errors import WeightsError
from keras_lightdet.foreign_weights import load_keras_mobilenet_v2, load_mobilenet_v2
from keras_lightdet.foreign_weights.applications import MOBILENET

WIDTHS = [1.0, 0.35, *(pytest.param(width, marks=pytest.mark.slow) for width in (0.5, 0.75, 1.3, 1.4))]
# Ends of Keras' blocks at strides 4 to 32.
ENDS = {"P2": "block_2_add", "P3": "block_5_add", "P4": "block_12_add", "P5": "block_16_project_BN"}


def stir(model):
    """Sets random statistics and scales of all batch norms, as after training."""
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            ranges = ((0.5, 1.5), (-0.2, 0.2), (-0.2, 0.2), (0.5, 1.5))
            layer.set_weights([random.uniform(*ends, layer.gamma.shape) for ends in ranges])


def build_theirs(width, size, top=True):
    keras.utils.set_random_seed(0)
    options = {"classes": CLASSES, "classifier_activation": None} if top else {}
    return keras.applications.MobileNetV2((*size, 3), alpha=width, include_top=top, weights=None, **options)


@pytest.mark.parametrize("width", WIDTHS)
def test_outputs_are_those_of_keras(width):
    classifier, features = MobileNetV2(width=width, num_classes=CLASSES), MobileNetV2(width=width)
    for size in SIZES:
        theirs = build_theirs(width, size)
        stir(theirs)
        for model in (classifier, features):
            load_keras_mobilenet_v2(model, theirs)
        image = draw_image(*size)
        outputs = {**{level: theirs.get_layer(name).output for level, name in ENDS.items()}, "logits": theirs.output}
        expected = keras.Model(theirs.input, outputs)(keras.applications.mobilenet_v2.preprocess_input(image.copy()))
        for key, values in {**features(image), "logits": classifier(image)}.items():
            wanted = np.array(expected[key])
            np.testing.assert_allclose(values, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max(), err_msg=key)


def test_every_layer_of_keras_is_used():
    theirs = build_theirs(0.35, (64, 64))
    named = {MOBILENET.module(layer.name) for layer in MobileNetV2(num_classes=CLASSES).layers if layer.weights}
    assert named == {layer.name for layer in theirs.layers if layer.weights}


@pytest.mark.parametrize(("width", "top"), [(0.5, True), (0.35, False)])
def test_other_networks_are_refused(width, top):
    model = MobileNetV2(width=0.35, num_classes=CLASSES)
    before = model.get_weights()
    with pytest.raises(WeightsError, match="same width"):
        load_keras_mobilenet_v2(model, build_theirs(width, (64, 64), top=top))
    for value, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, old)


def test_weights_of_the_other_convention_are_refused():
    with pytest.raises(ValueError, match='convention="keras"'):
        load_keras_mobilenet_v2(MobileNetV2(width=0.35, convention="torch"), build_theirs(0.35, (64, 64)))
    with pytest.raises(ValueError, match='convention="torch"'):
        load_mobilenet_v2(MobileNetV2(width=0.35), {})
