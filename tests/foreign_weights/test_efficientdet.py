"""EfficientDet has effdet's outputs, stored and computed; files that do not fit are refused."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch_tensors import (
    EFFICIENTDET_SIZES,
    EFFICIENTDET_TOP,
    EFFICIENTDETS,
    draw_efficientdet_tensor,
    draw_image,
    summarize_detector,
)

import keras_lightdet
from keras_lightdet.backbones import EfficientNet
from keras_lightdet.boxes import SelectSpec, select_detections
from keras_lightdet.errors import WeightsError
from keras_lightdet.foreign_weights import load_efficientdet, load_efficientnet
from keras_lightdet.foreign_weights.assign import module_tensors
from keras_lightdet.foreign_weights.effdet import efficientdet_modules
from keras_lightdet.models.efficientdet import VARIANTS, Variant

GOLDEN = Path(__file__).with_name("golden_efficientdet.npz")
SELECT = SelectSpec(0.001, 0.5, max_detections=100, pre_nms_top_k=EFFICIENTDET_TOP, soft_nms="gaussian")


def build(variant, size):
    convention = "keras" if EFFICIENTDETS[variant][0].startswith("tf_") else "torch"
    with pytest.MonkeyPatch.context() as patch:
        if own := EFFICIENTDETS[variant][2]:
            patch.setitem(VARIANTS, variant, Variant(input_shape=(128, 128, 3), **own))
        return keras_lightdet.EfficientDet(3, (*size, 3), variant=variant, convention=convention, select=SELECT)


def drawn_state(model):
    """A state dict of effdet for the network."""
    state = {}
    for module, layer in efficientdet_modules(model).items():
        for part, (variable, axes) in module_tensors(layer).items():
            shape = tuple(variable.shape[axes.index(axis)] for axis in range(len(axes)))
            name = f"{module}.{part}"
            state[name] = draw_efficientdet_tensor(name, shape)
    return state


def in_their_order(rows):
    """Reorders rows `[N, ..]` from shapes of three octaves to effdet's octaves of the shapes 1, 2, 1/2."""
    cells = np.asarray(rows).reshape(-1, 3, 3, rows.shape[-1])
    return cells[:, [1, 0, 2]].swapaxes(1, 2).reshape(-1, rows.shape[-1])


def answers(model, size):
    """See `effdet_nets.answers`."""
    raw = model(draw_image(*size))
    boxes = model.objective.decode_boxes(raw["box_deltas"], model.objective.generate_anchors(size))
    actual = select_detections(*model.decode(raw), SELECT)
    count = int(actual["count"][0])
    return {
        "logits": in_their_order(raw["class_logits"][0]),
        "boxes": in_their_order(boxes[0]),
        **{f"found_{part}": actual[part][0, :count].numpy() for part in ("boxes", "scores", "labels")},
    }


def assert_same(actual, expected):
    for part, tolerance in (("logits", 1e-4), ("boxes", 1e-4)):
        np.testing.assert_allclose(actual[part], expected[part], rtol=0, atol=tolerance * np.abs(expected[part]).max())
    # Boxes of nearly equal scores may change places.
    assert len(expected["found_labels"]) > 50
    np.testing.assert_allclose(actual["found_scores"], expected["found_scores"], atol=1e-4)
    same = 0
    for box, score, label in zip(
        expected["found_boxes"], expected["found_scores"], expected["found_labels"], strict=True
    ):
        near = np.abs(actual["found_boxes"] - box).max(-1) < 0.05
        same += np.any(near & (np.abs(actual["found_scores"] - score) < 1e-4) & (actual["found_labels"] == label))
    assert same >= 0.98 * len(expected["found_labels"])


@pytest.mark.parametrize(
    "variant", [pytest.param(name, marks=[pytest.mark.slow] * (name != "lite0")) for name in EFFICIENTDETS]
)
def test_outputs_are_the_stored_ones_of_effdet(variant):
    for size in EFFICIENTDET_SIZES[variant]:
        model = build(variant, size)
        load_efficientdet(model, drawn_state(model))
        with np.load(GOLDEN) as golden:
            for key, values in summarize_detector(variant, size, answers(model, size)).items():
                tolerance = 1e-4 * np.abs(golden[key]).max()
                np.testing.assert_allclose(values, golden[key], rtol=0, atol=tolerance, err_msg=key)


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("effdet"), reason="effdet is not installed")
@pytest.mark.parametrize("variant", EFFICIENTDETS)
def test_outputs_are_those_of_effdet(variant, tmp_path):
    script = Path(__file__).with_name("effdet_nets.py")
    done = subprocess.run([sys.executable, script, variant, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    compare_with_files(variant, tmp_path)


def compare_with_files(variant, folder):
    """Compares with weights.pth and answers.npz that effdet_nets.py wrote."""
    with np.load(folder / "answers.npz") as theirs:
        for size in EFFICIENTDET_SIZES[variant]:
            model = build(variant, size)
            load_efficientdet(model, folder / "weights.pth")
            prefix = f"{size[0]}x{size[1]}/"
            expected = {key.removeprefix(prefix): x for key, x in theirs.items() if key.startswith(prefix)}
            assert_same(answers(model, size), expected)


def test_features_load_the_weights_of_a_classifier():
    features = EfficientNet(variant="lite0")
    theirs = {key: x for key, x in drawn_state(build("lite0", (64, 64))).items() if key.startswith("backbone.")}
    state = {key.removeprefix("backbone."): x for key, x in theirs.items()}
    state |= {"conv_head.weight": np.zeros((1280, 320, 1, 1), "f4"), "classifier.bias": np.zeros(1000, "f4")}
    load_efficientnet(features, state)
    kernel = features.get_layer("stage3_block2_depthwise_conv").kernel[..., 0]
    np.testing.assert_array_equal(kernel, state["blocks.2.1.conv_dw.weight"][:, 0].transpose(1, 2, 0))
    kernel = features.get_layer("stage1_block1_project_conv").kernel[0, 0]
    np.testing.assert_array_equal(kernel, state["blocks.0.0.conv_pw.weight"][:, :, 0, 0].T)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda s: s.pop("fpn.cell.0.fnode.1.combine.resample.2.conv.bn.bias"),
            ["resample.2.conv.bn.bias", "node6_in2"],
        ),
        (lambda s: s.update({"class_net.predict.conv_pw.bias": np.zeros(810, "f4")}), ["27 rows", "(810,)"]),
        (lambda s: s.update({"fpn.cell.3.fnode.0.combine.edge_weights": np.ones(2, "f4")}), ["cell.3", "1 without"]),
    ],
)
def test_files_that_do_not_fit_are_refused_and_change_nothing(change, words):
    model = build("lite0", (64, 64))
    before = model.network.get_layer("predict_box").get_weights()
    state = drawn_state(model)
    change(state)
    with pytest.raises(WeightsError) as caught:
        load_efficientdet(model, state)
    assert all(word in str(caught.value) for word in words)
    after = model.network.get_layer("predict_box").get_weights()
    assert all(np.array_equal(now, then) for now, then in zip(after, before, strict=True))
