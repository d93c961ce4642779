"""Faster R-CNN has torchvision's outputs, stored and computed; files that do not fit are refused."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from detector_outputs import assert_same, build, outputs_of, shorten
from torch_tensors import draw_detector_state

from keras_lightdet.errors import WeightsError
from keras_lightdet.foreign_weights import load_faster_rcnn
from keras_lightdet.foreign_weights.torchvision_detection import faster_rcnn_modules

GOLDEN = Path(__file__).with_name("golden_detector.npz")
BOX = "roi_heads.box_predictor.bbox_pred"


@pytest.fixture(scope="module")
def model():
    return build("small")


@pytest.fixture(scope="module")
def drawn(model):
    return draw_detector_state(faster_rcnn_modules(model))


@pytest.fixture
def state(drawn):
    return dict(drawn)


def test_outputs_of_every_step_are_those_of_torchvision(model, state):
    load_faster_rcnn(model, state)
    actual = shorten(outputs_of(model, "small"))
    with np.load(GOLDEN) as golden:
        assert len(golden["rois"]) > 100 and len(set(golden["labels"])) > 1
        assert set(golden.files) == set(actual)
        assert all(golden[f"{part}_loss"] > 0.01 for part in ("objectness", "rpn_box", "class", "box"))
        assert_same(actual, golden)


def old_name(key):
    """The name of a tensor in torchvision's published file."""
    module, _, suffix = key.rpartition(".")
    if "_blocks." in module:
        return f"{module.removesuffix('.0')}.{suffix}"
    return f"rpn.head.conv.{suffix}" if module == "rpn.head.conv.0.0" else key


def test_names_in_files_before_torchvision_0_13_are_read(model, state):
    old = {old_name(key): value for key, value in state.items()}
    assert {"backbone.fpn.inner_blocks.3.weight", "rpn.head.conv.bias"} <= set(old) - set(state)
    model.rpn.get_layer("rpn_conv").bias.assign(np.zeros(8))
    load_faster_rcnn(model, old)
    np.testing.assert_array_equal(model.rpn.get_layer("rpn_conv").bias, state["rpn.head.conv.0.0.bias"])
    lateral = model.rpn.get_layer("fpn_p5_lateral").kernel[0, 0]
    np.testing.assert_array_equal(lateral, state["backbone.fpn.inner_blocks.3.0.weight"][:, :, 0, 0].T)


def test_channels_of_a_region_and_the_background_are_reordered(model, state):
    load_faster_rcnn(model, state)
    network = model.region_network
    region = np.random.default_rng(0).normal(size=(7, 7, 8)).astype("float32")
    theirs = state["roi_heads.box_head.fc6.weight"] @ region.transpose(2, 0, 1).reshape(-1)
    np.testing.assert_allclose(region.reshape(-1) @ np.array(network.get_layer("hidden1").kernel), theirs, atol=1e-4)
    scores = state["roi_heads.box_predictor.cls_score.bias"]
    np.testing.assert_array_equal(network.get_layer("regions_class").bias, [*scores[1:], scores[0]])
    np.testing.assert_array_equal(network.get_layer("regions_box_of_class").bias, state[f"{BOX}.bias"][4:])


@pytest.mark.parametrize("epsilon", [0.0, 1e-3])
def test_another_epsilon_is_compensated(model, state, epsilon):
    load_faster_rcnn(model, state, epsilon=epsilon)
    norm = model.rpn.get_layer("backbone").get_layer("stage4_block1_shortcut_bn")
    name = "backbone.body.layer3.0.downsample.1"
    gamma, beta, mean, variance = (
        state[f"{name}.{part}"].astype(float) for part in ("weight", "bias", "running_mean", "running_var")
    )
    x = np.random.default_rng(0).normal(size=(2, 3, 3, len(mean))).astype("float32")
    expected = (x - mean) / np.sqrt(variance + epsilon) * gamma + beta
    np.testing.assert_allclose(norm(x), expected, atol=1e-5)
    assert np.abs(expected - ((x - mean) / np.sqrt(variance + 1e-5) * gamma + beta)).max() > 5e-6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("roi_heads.box_head.fc7.bias"), ["fc7.bias", "hidden2"]),
        (lambda s: s.pop("backbone.body.bn1.running_var"), ["backbone.body.bn1.running_var", "stem_bn"]),
        (lambda s: s.update({"backbone.body.fc.weight": s[f"{BOX}.weight"]}), ["body.fc.weight", "1 without"]),
        (lambda s: s.update({f"{BOX}.weight": s[f"{BOX}.weight"][4:]}), [f"{BOX}.weight", "(16, 16)", "(12, 16)"]),
        (lambda s: s.update({"roi_heads.box_predictor.cls_score.bias": np.zeros(91, "f4")}), ["(4,)", "(91,)"]),
        (
            lambda s: s.update({"roi_heads.box_head.fc6.weight": np.broadcast_to(np.float16(0), (2**30, 2**30))}),
            ["fc6.weight", 2**30],
        ),
        (lambda s: s.update({"rpn.head.bbox_pred.bias": np.full(12, np.nan, "f4")}), ["bbox_pred.bias", "finite"]),
    ],
    ids=["missing", "norm", "left over", "no background", "classes", "no memory", "nan"],
)
def test_wrong_tensors_are_refused_and_nothing_changes(model, state, change, words):
    before = [np.array(weight) for weight in model.weights]
    change(state)
    with pytest.raises(WeightsError) as caught:
        load_faster_rcnn(model, state)
    for word in ("Expected", *words):
        assert str(word) in str(caught.value)
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_a_variance_of_zero_without_epsilon_is_refused(model, state):
    state["backbone.body.bn1.running_var"] = np.zeros(64, "float32")
    with pytest.raises(WeightsError, match="backbone.body.bn1.weight.*finite"):
        load_faster_rcnn(model, state, epsilon=0.0)


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "torchvision")), reason="compares with torchvision"
)
@pytest.mark.parametrize("name", ["small", pytest.param("fasterrcnn_resnet50_fpn", marks=pytest.mark.slow)])
def test_outputs_are_those_of_torchvision(name, tmp_path):
    script = Path(__file__).with_name("torchvision_detectors.py")
    subprocess.run([sys.executable, script, name, tmp_path], check=True)
    model = build(name)
    load_faster_rcnn(model, tmp_path / "weights.pth")
    with np.load(tmp_path / "answers.npz") as expected:
        assert_same(outputs_of(model, name), expected)
