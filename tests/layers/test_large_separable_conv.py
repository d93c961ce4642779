"""The large separable convolution of Light-Head R-CNN."""

import keras
import numpy as np
import pytest

from keras_lightdet.layers import large_separable_conv


def build(channels=3, mid=2, out=4, kernel_size=5, activation=None):
    x = keras.Input((9, 11, channels))
    return keras.Model(x, large_separable_conv(x, mid, out, kernel_size, activation=activation, name="thin"))


def randomize(model, seed=0):
    random = np.random.default_rng(seed)
    model.set_weights([random.normal(size=weight.shape) for weight in model.get_weights()])


def convolve(maps, kernel, bias):
    """A "same" convolution of `maps` `[H, W, C]` by shifted copies."""
    rows, columns = kernel.shape[:2]
    padded = np.pad(maps, ((rows // 2, rows // 2), (columns // 2, columns // 2), (0, 0)))
    height, width = maps.shape[:2]
    shifts = np.ndindex(rows, columns)
    return bias + sum(padded[i : i + height, j : j + width] @ kernel[i, j] for i, j in shifts)


@pytest.mark.parametrize("activation", [None, "relu"])
def test_it_is_the_sum_of_two_chains_in_opposite_order(activation):
    model = build(activation=activation)
    randomize(model)
    weights = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    image = np.random.default_rng(1).normal(size=(9, 11, 3))
    total = 0.0
    for branch, first in (("column_row", (5, 1)), ("row_column", (1, 5))):
        chain = image
        for conv, shape in (("conv1", first), ("conv2", first[::-1])):
            kernel, bias = weights[f"thin_{branch}_{conv}"]
            assert kernel.shape[:2] == shape
            chain = convolve(chain, kernel, bias)
        total = total + chain
    expected = np.maximum(total, 0) if activation else total
    np.testing.assert_allclose(model(image[None])[0], expected, rtol=1e-4, atol=1e-3)


def test_parameters_and_initial_weights_are_those_of_the_paper():
    """19.49 M from ResNet-101's 2048 channels, 2.05 M from the small backbone's 576."""
    large = build(2048, 256, 490, 15)
    assert large.count_params() == 2 * (15 * 2048 * 256 + 256 + 15 * 256 * 490 + 490)
    assert round(large.count_params() / 1e6, 2) == 19.49
    assert round(build(576, 64, 490, 15).count_params() / 1e6, 2) == 2.05
    kernel, bias = large.get_layer("thin_row_column_conv2").get_weights()
    assert np.std(kernel) == pytest.approx(0.01, rel=0.01)
    np.testing.assert_array_equal(bias, 0)
