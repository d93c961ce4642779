"""The pyramid against loops, with sides that are odd at some level."""

import keras
import numpy as np
import pytest

from keras_lightdet.layers import fpn

CHANNELS = {"P3": 3, "P4": 5, "P5": 6}
WIDTH = 4


def halved(height, width):
    return -(-height // 2), -(-width // 2)


def build(height, width):
    """A model of the pyramid only, with random weights and biases."""
    inputs, size = {}, (height, width)
    for level, channels in CHANNELS.items():
        inputs[level], size = keras.Input((*size, channels), name=level), halved(*size)
    model = keras.Model(inputs, fpn(inputs, WIDTH, extra_level=True))
    random = np.random.default_rng(0)
    model.set_weights([random.normal(size=weight.shape) for weight in model.weights])
    maps = {level: random.normal(size=(2, *x.shape[1:])).astype("float32") for level, x in inputs.items()}
    return model, maps


def lateral(model, level, x):
    kernel, bias = model.get_layer(f"fpn_{level.lower()}_lateral").get_weights()
    return x @ kernel[0, 0] + bias


def smooth(model, level, x):
    """A 3x3 convolution with zero padding."""
    kernel, bias = model.get_layer(f"fpn_{level.lower()}_out").get_weights()
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    parts = (padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3))
    return sum(parts) + bias


def upsample(x, height, width):
    """PyTorch's nearest interpolation."""
    rows = np.arange(height) * x.shape[1] // height
    columns = np.arange(width) * x.shape[2] // width
    return x[:, rows][:, :, columns]


@pytest.mark.parametrize("size", [(8, 12), (7, 9), (5, 14)])
def test_levels_are_those_of_loops(size):
    model, maps = build(*size)
    actual = model(maps)
    p5 = lateral(model, "P5", maps["P5"])
    p4 = lateral(model, "P4", maps["P4"]) + upsample(p5, *maps["P4"].shape[1:3])
    p3 = lateral(model, "P3", maps["P3"]) + upsample(p4, *size)
    expected = {level: smooth(model, level, x) for level, x in {"P3": p3, "P4": p4, "P5": p5}.items()}
    expected["P6"] = expected["P5"][:, ::2, ::2]
    assert list(actual) == list(expected)
    for level, values in expected.items():
        np.testing.assert_allclose(actual[level], values, rtol=0, atol=1e-4 * np.abs(values).max(), err_msg=level)


def test_upsampling_and_cropping_takes_the_pixels_of_pytorch():
    """`floor(i * coarse / fine)` with the ratio in float32, as PyTorch computes it, is `i // 2` for a half map."""
    for fine in range(1, 2000):
        ratio = np.float32(-(-fine // 2)) / np.float32(fine)
        pixels = np.arange(fine)
        np.testing.assert_array_equal(np.floor(pixels.astype("float32") * ratio), pixels // 2)
