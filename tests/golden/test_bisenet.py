"""Parity of BiSeNet's parts with PyTorch modules of our own, from answers that `make_bisenet.py` has stored."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_lightdet.models import bisenet

SCRIPT = Path(__file__).with_name("make_bisenet.py")
# Layers of each part in the order that its weights are stored in.
UNIT = ("_conv", "_bn")
PARTS = {
    "whole": tuple(f"context{layer}" for layer in UNIT),
    **{name: tuple(f"{name}{part}" for part in (*UNIT, "_gate_conv", "_gate_bn")) for name in ("arm32", "arm16")},
    **{name: tuple(f"{name}{layer}" for layer in UNIT) for name in ("refine32", "refine16")},
    "ffm": ("ffm_conv", "ffm_bn", "ffm_gate1", "ffm_gate2"),
}


@pytest.fixture(scope="module")
def golden():
    with np.load(SCRIPT.with_name("bisenet.npz")) as file:
        return dict(file)


def set_weights(model, golden):
    for part, layers in PARTS.items():
        row = golden[part]
        for layer in map(model.get_layer, layers):
            shapes = [tuple(weight.shape) for weight in layer.weights]
            sizes = np.cumsum([np.prod(shape) for shape in shapes])
            *values, row = np.split(row, sizes)
            layer.set_weights([value.reshape(shape) for value, shape in zip(values, shapes, strict=True)])
        assert not len(row)


def assert_close(found, expected):
    """Within 1e-4 of the expected values' scale."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_context_path_and_fusion(golden, monkeypatch):
    monkeypatch.setattr(bisenet, "WIDTH", golden["p8"].shape[-1])
    names = ("c16", "c32", "spatial")
    c16, c32, spatial = (keras.Input(golden[name].shape[1:]) for name in names)
    p8, p16 = bisenet._context_path(c16, c32, spatial, {"attention": True, "global_context": True})
    fused = bisenet._ffm(spatial, p8, name="ffm")
    model = keras.Model([c16, c32, spatial], {"p8": p8, "p16": p16, "fused": fused})
    arm = keras.Model(c16, model.get_layer("arm16_weigh").output)
    set_weights(model, golden)
    found = model([golden[name] for name in names])
    assert_close(arm(golden["c16"]), golden["refined16"])
    for name, value in found.items():
        assert_close(value, golden[name])


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch")
def test_the_stored_answers_are_those_of_torch():
    """In a process of its own: TensorFlow and torch do not always live in one."""
    done = subprocess.run([sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1500:]
