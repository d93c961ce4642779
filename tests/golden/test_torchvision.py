"""Parity with torchvision's detection ops, by the outputs that `make_torchvision.py` stored."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_lightdet.boxes import DeltaCoding, IoUAssigner, ProposalSpec, PyramidAnchors, assign_anchors, propose
from keras_lightdet.layers import multilevel_roi_align, ps_roi_align, roi_align

SCRIPT = Path(__file__).with_name("make_torchvision.py")
STRIDE, POOL = 8, 3
ANCHORS = PyramidAnchors((8, 16), ((20, 33), (40, 66)), (0.5, 1.0, 2.0), rounded=True)
SIZE = (32, 32)


@pytest.fixture(scope="module")
def golden():
    with np.load(SCRIPT.with_name("torchvision.npz")) as file:
        return dict(file)


def assert_close(actual, expected):
    """Within 1e-4 of the expected values' scale."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("aligned", [False, True])
def test_roi_align(golden, aligned):
    actual = roi_align(golden["features"], golden["rois"], POOL, STRIDE, sampling_ratio=2, aligned=aligned)
    assert_close(actual, golden[f"roi_align_{'aligned' if aligned else 'plain'}"])


def test_ps_roi_align(golden):
    actual = ps_roi_align(golden["ps_features"], golden["rois"], POOL, STRIDE, samples=2, reduce="mean", aligned=True)
    assert_close(actual, golden["ps_roi_align"])


def test_multilevel_roi_align(golden):
    pyramid = {name: golden[name] for name in ("P2", "P3", "P4")}
    actual = multilevel_roi_align(pyramid, golden["level_rois"], 2, canonical_level=3, canonical_size=28.0)
    assert_close(actual, golden["multilevel"])


def test_anchors(golden):
    np.testing.assert_array_equal(ANCHORS.generate(SIZE), golden["anchors"])


def test_coding(golden):
    boxes = golden["boxes"][np.arange(len(golden["anchors"])) % 4]
    assert_close(DeltaCoding().encode(boxes, golden["anchors"]), golden["deltas"])
    assert_close(DeltaCoding().decode(golden["wild_deltas"], golden["anchors"]), golden["wild_boxes"])


def test_matching(golden):
    boxes = golden["boxes"][None]
    actual = assign_anchors(
        golden["anchors"], boxes, np.zeros((1, 4), int), np.zeros((1, 4), int), IoUAssigner(0.5, 0.3, True)
    )
    assert {-2, -1, 0, 1, 2, 3} >= set(golden["matched"]) >= {-2, -1, 0}
    np.testing.assert_array_equal(actual[0], golden["matched"])


@pytest.mark.parametrize("images", [1, 2])
def test_proposals(golden, images):
    actual = propose(
        tf.constant(golden["objectness"][:images]),
        tf.constant(golden["rpn_deltas"][:images]),
        ANCHORS.generate(SIZE),
        SIZE,
        ProposalSpec(30, 20, 0.7, 1e-3),
        level_counts=ANCHORS.level_counts(SIZE),
    )
    assert np.all(actual["valid"])
    assert_close(actual["boxes"], golden["proposals"][:images])
    assert_close(actual["scores"], golden["proposal_scores"][:images])


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="needs torchvision")
def test_the_stored_outputs_are_those_of_torchvision():
    """In a process of its own, because TensorFlow and torch do not always work in one."""
    done = subprocess.run([sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1500:]
