"""weights_backbone= copies the weights of a classifier into the backbone, and refuses those of other networks."""

import json
from functools import partial

import numpy as np
import pytest
from small_detector import NAMES, SIDE, small_faster_rcnn, small_thundernet

import keras_lightdet
from keras_lightdet.backbones import ResNet, ShuffleNetV2, SNet, XceptionLight
from keras_lightdet.builder import load_classifier
from keras_lightdet.errors import WeightsError
from keras_lightdet.weights import copy_layers, load_weights, read_record, record_path, save_weights

WIDTHS = (28, 32, 36)


def save_classifier(folder, build, **options):
    """Returns a classifier of random weights, batch norm statistics included, and its file."""
    model = build(num_classes=5, **options)
    random = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(random.uniform(0.1, 1.0, variable.shape))
    return model, save_weights(model, folder / "classifier.weights.h5")


def assert_same_weights(classifier, backbone):
    expected = {layer.name: layer.get_weights() for layer in classifier.layers}
    weighted = [layer for layer in backbone.layers if layer.weights]
    assert len(weighted) > 20
    for layer in weighted:
        for actual, value in zip(layer.get_weights(), expected[layer.name], strict=True):
            np.testing.assert_array_equal(actual, value)


@pytest.mark.parametrize("options", [{}, {"context": False}, {"unit": "keep", "kernel_size": 3}])
def test_thundernet_starts_from_a_classifier(tmp_path, options):
    form = {key: value for key, value in options.items() if key != "context"}
    classifier, path = save_classifier(tmp_path, SNet, widths=WIDTHS, **form)
    model = small_thundernet(weights_backbone=path, **options)
    assert_same_weights(classifier, model.rpn.get_layer("backbone"))
    assert model.class_names == NAMES  # not the classifier's


def test_light_head_rcnn_starts_from_a_classifier(tmp_path):
    classifier, path = save_classifier(tmp_path, XceptionLight)
    model = keras_lightdet.LightHeadRCNN(3, (SIDE, SIDE, 3), head_width=16, weights_backbone=path)
    assert_same_weights(classifier, model.rpn.get_layer("backbone"))


def test_faster_rcnn_starts_from_a_classifier(tmp_path):
    classifier, path = save_classifier(tmp_path, ResNet, depth=18)
    assert_same_weights(classifier, small_faster_rcnn(weights_backbone=path).rpn.get_layer("backbone"))
    with pytest.raises(WeightsError, match=r"ResNet with .*'depth': 34.* got .*'depth': 18"):
        small_faster_rcnn(depth=34, weights_backbone=path)


def test_a_dilated_backbone_starts_from_a_classifier_without_dilation(tmp_path):
    """Setting L dilates the last stage, which does not change the shapes of weights."""
    build = partial(ResNet, depth=18)
    classifier, path = save_classifier(tmp_path, build)
    dilated = ResNet(depth=18, dilate_last=True)
    copy_layers(load_classifier(build, path), dilated)
    assert_same_weights(classifier, dilated)


def test_a_classifier_is_restored_from_its_record(tmp_path):
    classifier, path = save_classifier(tmp_path, ShuffleNetV2, width=0.5, unit="keep")
    record = read_record(path)
    options = dict(record["architecture"])
    assert options.pop("builder") == "ShuffleNetV2"
    again = ShuffleNetV2(num_classes=len(record["class_names"]), **options)
    load_weights(again, path)
    image = np.random.default_rng(1).uniform(0, 255, (1, 32, 32, 3))
    np.testing.assert_array_equal(again(image), classifier(image))


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (SNet, {"variant": "snet49"}, r"SNet with .*'variant': 'snet146'.* got .*'variant': 'snet49'.*Build the"),
        (SNet, {"widths": (28, 32, 40)}, r"'widths': \[28, 32, 36\].* got .*\[28, 32, 40\]"),
        (SNet, {"widths": WIDTHS, "kernel_size": 3}, "'kernel_size': 5.* got .*'kernel_size': 3"),
        (ShuffleNetV2, {"width": 0.5}, r"a classifier SNet, got .* of ShuffleNetV2\. Give .*backbones\.SNet"),
    ],
)
def test_another_backbone_is_refused_by_name_with_the_cure(tmp_path, build, options, message):
    path = save_weights(build(num_classes=2, **options), tmp_path / "classifier.weights.h5")
    with pytest.raises(WeightsError, match=message):
        small_thundernet(weights_backbone=path)


def test_weights_of_a_detector_are_refused_as_those_of_a_backbone(tmp_path):
    path = save_weights(small_thundernet(), tmp_path / "detector.weights.h5")
    with pytest.raises(WeightsError, match="got .* of ThunderNet.*those of a detector go to weights="):
        small_thundernet(weights_backbone=path)


def test_weights_of_a_classifier_are_refused_as_those_of_a_detector(tmp_path):
    _, path = save_classifier(tmp_path, SNet, widths=WIDTHS)
    message = "weights to be those of a ThunderNet, got .*classifier.weights.h5 of SNet.*go to weights_backbone="
    with pytest.raises(WeightsError, match=message):
        small_thundernet(weights=path, class_names=None)
    with pytest.raises(WeightsError, match="those of a RSANet, got .* of SNet"):
        keras_lightdet.RSANet(weights=path)


def test_both_kinds_of_weights_are_refused(tmp_path):
    path = save_weights(small_thundernet(), tmp_path / "detector.weights.h5")
    with pytest.raises(ValueError, match="Expected weights or weights_backbone"):
        keras_lightdet.ThunderNet(weights=path, weights_backbone=path)


@pytest.mark.parametrize(
    ("class_names", "message"),
    [([], "to be a record of weights"), (["a", "b"], "to fit"), ("abcde", "to be a record of weights")],
)
def test_a_classifiers_record_with_other_class_names_is_refused(tmp_path, class_names, message):
    _, path = save_classifier(tmp_path, SNet, widths=WIDTHS)
    record = json.loads(record_path(path).read_text())
    record_path(path).write_text(json.dumps({**record, "class_names": class_names}))
    with pytest.raises(WeightsError, match=f"classifier.weights.* {message}"):
        small_thundernet(weights_backbone=path)


def test_damaged_weights_of_a_classifier_are_refused_by_name(tmp_path):
    _, path = save_classifier(tmp_path, SNet, widths=WIDTHS)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="classifier.weights.h5 to have the sha256"):
        small_thundernet(weights_backbone=path)
