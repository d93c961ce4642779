"""The heads of a pyramid: order of the rows, layers that levels share, and initial scores."""

import keras
import numpy as np
import pytest

from keras_lightdet.layers import NormSpec, dense_heads

SIDES = {"P3": (5, 7), "P4": (3, 4)}
CLASSES, PER_CELL, WIDTH = 5, 6, 8


def build(**options):
    keras.utils.set_random_seed(0)
    pyramid = {level: keras.Input((*sides, WIDTH), name=level) for level, sides in SIDES.items()}
    options = {"separable": True, "norm": NormSpec(), "width": WIDTH, "repeats": 2, "activation": "silu", **options}
    return keras.Model(pyramid, dense_heads(pyramid, CLASSES, PER_CELL, **options))


def draw_maps(batch=2):
    random = np.random.default_rng(0)
    return {level: random.normal(0, 1, (batch, *sides, WIDTH)).astype("float32") for level, sides in SIDES.items()}


def convolve_by_loops(x, layer):
    """A 3x3 convolution of one image by definition, separable or not."""
    if isinstance(layer, keras.layers.SeparableConv2D):
        depthwise, pointwise = layer.depthwise_kernel.numpy()[..., 0], layer.pointwise_kernel.numpy()[0, 0]
    else:
        kernel = layer.kernel.numpy()
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    out = np.zeros((*x.shape[:2], layer.filters))
    for row in range(x.shape[0]):
        for column in range(x.shape[1]):
            window = padded[row : row + 3, column : column + 3]
            if isinstance(layer, keras.layers.SeparableConv2D):
                out[row, column] = (window * depthwise).sum((0, 1)) @ pointwise
            else:
                out[row, column] = np.einsum("hwi,hwio->o", window, kernel)
    return out + layer.bias.numpy()


@pytest.mark.parametrize("separable", [True, False])
@pytest.mark.parametrize("norm", [NormSpec(), None])
def test_outputs_are_those_of_the_definition_row_by_row(separable, norm):
    model, maps = build(separable=separable, norm=norm), draw_maps()
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights(
                [np.random.default_rng(len(layer.name)).uniform(0.5, 2, w.shape) for w in layer.get_weights()]
            )
    actual = model(maps)
    for part, key, depth in (("box", "box_deltas", 4), ("class", "class_logits", CLASSES)):
        rows = []
        for level in SIDES:
            x = maps[level][1]
            for step in (1, 2):
                x = convolve_by_loops(x, model.get_layer(f"{part}_net_conv{step}"))
                if norm:
                    bn = model.get_layer(f"{part}_net_conv{step}_{level.lower()}_bn")
                    gamma, beta, mean, variance = bn.get_weights()
                    x = gamma * (x - mean) / np.sqrt(variance + bn.epsilon) + beta
                x = x / (1 + np.exp(-x))
            cells = convolve_by_loops(x, model.get_layer(f"predict_{part}"))
            rows += [
                cells[r, c, depth * a : depth * (a + 1)] for r, c in np.ndindex(*SIDES[level]) for a in range(PER_CELL)
            ]
        np.testing.assert_allclose(actual[key][1], rows, rtol=1e-4, atol=1e-5)


def test_initial_scores_are_the_prior():
    logits = build()(draw_maps())["class_logits"]
    np.testing.assert_allclose(keras.ops.sigmoid(logits), 0.01, atol=0.005)


def test_levels_share_kernels_but_not_batch_norms():
    model = build()
    names = [layer.name for layer in model.layers if layer.weights]
    assert sum("conv" in name and not name.endswith("_bn") for name in names) == 4
    assert sum(name.endswith("_bn") for name in names) == 2 * 2 * len(SIDES)
