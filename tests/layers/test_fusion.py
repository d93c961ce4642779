"""Fusion graphs: the papers' nodes, the published ratios of cost, and every graph against NumPy."""

import functools

import keras
import numpy as np
import pytest

from keras_lightdet.analysis import cost
from keras_lightdet.backbones import LCNet, ResNet
from keras_lightdet.layers import FUSIONS, NormSpec, WeightedFusion, fuse
from keras_lightdet.layers.fusion_graphs import bifpn, nas_fpn, simplified_panet, top_down, top_down_bottom_up

LEVELS = ("P3", "P4", "P5", "P6", "P7")
NORM = NormSpec(0.99, 1e-3)


def test_bifpn_of_five_and_six_levels_is_the_released_graph():
    """As google/automl lists them: level and inputs of each node, P3 being level 0."""
    assert [(node.level, *node.inputs) for node in bifpn(5)] == [
        (3, 3, 4),
        (2, 2, 5),
        (1, 1, 6),
        (0, 0, 7),
        (1, 1, 7, 8),
        (2, 2, 6, 9),
        (3, 3, 5, 10),
        (4, 4, 11),
    ]
    assert [(node.level, *node.inputs) for node in bifpn(6)] == [
        (4, 4, 5),
        (3, 3, 6),
        (2, 2, 7),
        (1, 1, 8),
        (0, 0, 9),
        (1, 1, 9, 10),
        (2, 2, 8, 11),
        (3, 3, 7, 12),
        (4, 4, 6, 13),
        (5, 5, 14),
    ]


def test_fpn_and_panet_are_the_papers_graphs():
    down = [(4, 4), (3, 3, 5), (2, 2, 6), (1, 1, 7), (0, 0, 8)]
    assert [(node.level, *node.inputs) for node in top_down(5)] == down
    back = [(0, 9), (1, 8, 10), (2, 7, 11), (3, 6, 12), (4, 5, 13)]
    assert [(node.level, *node.inputs) for node in top_down_bottom_up(5)] == down + back
    assert [(node.level, *node.inputs) for node in simplified_panet(5)] == [
        *[(3, 3, 4), (2, 2, 5), (1, 1, 6), (0, 0, 7)],
        *[(1, 7, 8), (2, 6, 9), (3, 5, 10), (4, 4, 11)],
    ]
    with pytest.raises(ValueError, match="5 levels, got 4"):
        nas_fpn(4)


@functools.cache
def cost_of_table5(name):
    """The feature network of EfficientDet-D3 in the paper's first version: 5 cells of 160 channels at 896 pixels."""
    sides = {"P3": (112, 112, 48), "P4": (56, 56, 136), "P5": (28, 28, 384)}
    features = {level: keras.Input(shape, name=level) for level, shape in sides.items()}
    fusion = FUSIONS[name]
    options = {"levels": LEVELS, "width": 160, "repeats": 5, "method": fusion.method, "activation": "silu"}
    return cost(keras.Model(features, fuse(features, fusion.graph(5), **options, norm=NORM, name="fusion")))


# Published ratios of parameters and multiply-adds to repeated FPN's (Tan et al. 2020, table 5; simplified PANet is not
# in it), and ours. Residuals: 0.03 parameters of NAS-FPN, 0.03 multiply-adds of the fully connected one.
@pytest.mark.parametrize(
    ("name", "published", "counted"),
    [
        ("repeated_fpn_panet", (1.00, 1.00), (1.000, 1.000)),
        ("nas_fpn", (0.71, 0.72), (0.745, 0.719)),
        ("fully_connected_fpn", (1.24, 1.21), (1.241, 1.178)),
        ("simplified_panet", None, (0.820, 0.644)),
        ("bifpn_sum", (0.88, 0.67), (0.875, 0.668)),
        ("bifpn_fast", (0.88, 0.68), (0.875, 0.668)),
    ],
)
def test_costs_have_the_published_ratios(name, published, counted):
    base, actual = cost_of_table5("repeated_fpn"), cost_of_table5(name)
    ratios = (actual.trainable_parameters / base.trainable_parameters, actual.macs / base.macs)
    assert tuple(round(ratio, 3) for ratio in ratios) == counted
    assert published is None or np.allclose(ratios, published, atol=0.036)
    if name == "bifpn_fast":  # 19 weights a cell
        assert actual.trainable_parameters - cost_of_table5("bifpn_sum").trainable_parameters == 5 * 19


def pooled(x, steps, padding):
    """Max pooling of size `2^steps + 1`, padded as TensorFlow's "same", or by a pixel on both sides."""
    stride, window = 2**steps, 2**steps + 1
    height, width = (-(-side // stride) for side in x.shape[:2])
    out = np.empty((height, width, x.shape[2]))
    starts = [
        [
            index * stride - (1 if padding == "symmetric" else max((count - 1) * stride + window - side, 0) // 2)
            for index in range(count)
        ]
        for count, side in ((height, x.shape[0]), (width, x.shape[1]))
    ]
    for row, top in enumerate(starts[0]):
        for column, left in enumerate(starts[1]):
            out[row, column] = x[max(top, 0) : top + window, max(left, 0) : left + window].max((0, 1))
    return out


def in_numpy(model, features, fusion, width, levels, repeats, padding):
    """Computes the cells by definition; the weights are those of the model's layers, by name."""

    def norm(x, name):
        gamma, beta, mean, variance = model.get_layer(name).get_weights()
        return gamma * (x - mean) / np.sqrt(variance + NORM.epsilon) + beta

    def resample(x, steps, like, name):
        if x.shape[-1] != width:
            kernel, *bias = model.get_layer(f"{name}_conv").get_weights()
            x = norm(x @ kernel[0, 0] + sum(bias), f"{name}_bn")
        if steps < 0:
            return pooled(x, -steps, padding)
        return x.repeat(2**steps, 0).repeat(2**steps, 1)[: like.shape[0], : like.shape[1]]

    def join(maps, places, node, name):
        if node.gated:
            fine, coarse = (maps[0], maps[1]) if places[0] < places[1] else (maps[1], maps[0])
            return coarse + fine / (1 + np.exp(-coarse.max((0, 1)))) + sum(maps[2:])
        if fusion.method == "sum" or len(maps) == 1:
            return sum(maps)
        (weight,) = model.get_layer(f"{name}_fusion").get_weights()
        weight = np.exp(weight) if fusion.method == "softmax" else np.maximum(weight, 0)
        total = weight.sum() + (1e-4 if fusion.method == "fast" else 0)
        return sum(x * each / total for x, each in zip(maps, weight, strict=True))

    def convolve(x, name):
        depthwise, pointwise, *bias = model.get_layer(name).get_weights()
        padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
        rows, columns = x.shape[:2]
        shifts = [(i, j) for i in range(3) for j in range(3)]
        x = sum(padded[i : i + rows, j : j + columns] * depthwise[i, j, :, 0] for i, j in shifts)
        return x @ pointwise[0, 0] + sum(bias)

    maps = list(features)
    for level in levels[len(maps) :]:
        maps.append(resample(maps[-1], -1, None, f"f_{level.lower()}"))
    for cell in range(1, repeats + 1):
        inputs, places = list(maps), list(range(len(maps)))
        for number, node in enumerate(fusion.graph(len(levels)), start=len(inputs)):
            name, like = f"f_cell{cell}_node{number}", inputs[node.level]
            joined = [resample(maps[i], places[i] - node.level, like, f"{name}_in{i}") for i in node.inputs]
            x = join(joined, [places[i] for i in node.inputs], node, name)
            x = x / (1 + np.exp(-x))
            maps.append(norm(convolve(x, f"{name}_conv"), f"{name}_bn"))
            places.append(node.level)
        last = dict(zip(places, maps, strict=True))
        maps = [last[level] for level in range(len(inputs))]
    return maps


# PyTorch's padding and no biases are the form of effdet's own networks.
@pytest.mark.parametrize(
    ("name", "padding"), [*((name, "same") for name in FUSIONS), ("bifpn_fast", "symmetric"), ("panet", "symmetric")]
)
def test_every_graph_computes_its_definition(name, padding):
    fusion, width, repeats = FUSIONS[name], 4, 1 + FUSIONS[name].repeated
    random = np.random.default_rng(0)
    sides = {"P3": (19, 34, 4), "P4": (10, 17, 6), "P5": (5, 9, 8)}
    inputs = {level: keras.Input(shape, name=level) for level, shape in sides.items()}
    options = {"levels": LEVELS, "width": width, "repeats": repeats, "method": fusion.method, "activation": "silu"}
    form = {"padding": padding, "use_bias": padding == "same"}
    model = keras.Model(inputs, fuse(inputs, fusion.graph(5), **options, **form, norm=NORM, name="f"))
    assert any(weight.path.endswith("/bias") for weight in model.weights) == form["use_bias"]
    model.set_weights(
        [random.uniform(0.2, 1, w.shape) * random.choice([1, -1], w.shape) ** (w.ndim > 1) for w in model.get_weights()]
    )
    maps = {level: random.normal(0, 1, (1, *shape)).astype("float32") for level, shape in sides.items()}
    actual = model(maps)
    assert tuple(actual) == LEVELS
    expected = in_numpy(model, [x[0] for x in maps.values()], fusion, width, LEVELS, repeats, padding)
    for level, values in zip(LEVELS, expected, strict=True):
        np.testing.assert_allclose(actual[level][0], values, rtol=0, atol=2e-5 * np.abs(values).max())


@pytest.mark.parametrize(
    ("backbone", "levels"), [(LCNet, ("P3", "P4", "P5", "P6")), (lambda: ResNet(depth=18), ("P2", "P3", "P4", "P5"))]
)
def test_fusions_work_with_any_backbone_and_levels(backbone, levels):
    features = backbone()
    options = {"levels": levels, "width": 8, "repeats": 1, "method": "fast", "activation": "relu"}
    model = keras.Model(features.input, fuse(features.output, bifpn(len(levels)), **options, norm=NORM, name="bifpn"))
    actual = model(np.zeros((1, 96, 64, 3), "float32"))
    strides = [2 ** int(level[1]) for level in levels]
    assert [tuple(x.shape) for x in actual.values()] == [
        (1, 96 // s or 1, 64 // s or 1, 8) if s < 64 else (1, 2, 1, 8) for s in strides
    ]


def test_a_weighted_fusion_is_a_weighted_mean():
    maps = [np.full((1, 1, 1, 2), value, "float32") for value in (1.0, 10.0, 100.0)]
    fast = WeightedFusion("fast")
    np.testing.assert_allclose(fast(maps), 111 / 3.0001 * np.ones((1, 1, 1, 2)), rtol=1e-6)
    fast.set_weights([np.float32([1, -5, 3])])
    np.testing.assert_allclose(fast(maps), 301 / 4.0001 * np.ones((1, 1, 1, 2)), rtol=1e-6)
    soft = WeightedFusion("softmax")
    soft(maps)
    soft.set_weights([np.log(np.float32([1, 2, 5]))])
    np.testing.assert_allclose(soft(maps), (1 + 20 + 500) / 8 * np.ones((1, 1, 1, 2)), rtol=1e-5)
    again = WeightedFusion.from_config(soft.get_config())
    assert (again.method, again.epsilon) == ("softmax", 1e-4)


def test_unknown_methods_and_levels_are_refused():
    features = {"P3": keras.Input((8, 8, 4))}
    options = {"width": 4, "repeats": 1, "activation": "relu", "norm": NORM, "name": "f"}
    with pytest.raises(ValueError, match="method to be one of"):
        fuse(features, top_down(2), levels=("P3", "P4"), method="mean", **options)
    with pytest.raises(ValueError, match="features of the levels"):
        fuse(features, top_down(2), levels=("P4", "P5"), method="sum", **options)
    with pytest.raises(ValueError, match="padding to be one of"):
        fuse(features, top_down(2), levels=("P3", "P4"), method="sum", padding="valid", **options)
    pyramid = {level: keras.Input((16 >> index, 16 >> index, 4)) for index, level in enumerate(LEVELS)}
    with pytest.raises(ValueError, match="one level apart"):
        fuse(pyramid, nas_fpn(5), levels=LEVELS, method="sum", padding="symmetric", **options)
    with pytest.raises(ValueError, match="method to be one of"):
        WeightedFusion("sum")
