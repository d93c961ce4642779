"""Each layer of a SpineNet gets the weights of the Model Garden's layer of the same place, here of a stand-in."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from garden_weights import draw_weights

from keras_lightdet.backbones import MobileSpineNet, SpineNet
from keras_lightdet.backbones.mobile_spinenet import MOBILE_SPINENET
from keras_lightdet.backbones.spinenet import SPINENET
from keras_lightdet.errors import WeightsError
from keras_lightdet.foreign_weights import load_model_garden_spinenet

UNITS = ("reduce", "spatial", "depthwise1", "depthwise2", "depthwise3", "depthwise4", "depthwise5", "match")
# Convolution k and batch norm k of the Model Garden's blocks by the units of this package.
BLOCKS = {
    "BottleneckBlock": {"shortcut": 0, "reduce": 1, "spatial": 2, "expand": 3},
    "ResidualBlock": {"spatial1": 1, "spatial2": 2},
    "InvertedBottleneckBlock": {"expand": 0, "depthwise": 1, "project": 2},
}
NETS = {
    "spinenet": (SpineNet, {"variant": "96", "width": 0.25, "resample": 0.25}, SPINENET),  # two copies of each block
    "mobile_spinenet": (MobileSpineNet, {"variant": "49xs"}, MOBILE_SPINENET),
}


def build_source(layers, blocks):
    """Returns a stand-in for the Model Garden's network, whose layers are numbered in its order of creation."""
    created = []

    def create(kind, **attributes):
        created.append(type(kind, (), {**attributes, "name": f"layer_{len(created)}"})())

    resampling = [f"block{k}_from{p}_{u}" for k, block in enumerate(blocks, 2) for p in block.parents for u in UNITS]
    for name in ("stem", *resampling, *(f"p{level}_out" for level in range(3, 8))):
        if f"{name}_conv" in layers:
            conv, norm = layers[f"{name}_conv"], layers[f"{name}_bn"]
            create(type(conv).__name__, get_weights=staticmethod(conv.get_weights))
            create("BatchNormalization", get_weights=staticmethod(norm.get_weights))
    for index in range(len(blocks) + 2):
        for copy in ("", "_copy1", "_copy2"):
            units = [re.fullmatch(rf"block{index}{copy}_(?!from|copy)(\w+)_conv", name) for name in layers]
            units = {match[1] for match in units if match}
            for kind, numbers in BLOCKS.items():
                if units and units <= set(numbers):
                    create(kind, **block_attributes(layers, f"block{index}{copy}", units, numbers))
                    break
    return SimpleNamespace(name="source", layers=created[::-1])


def block_attributes(layers, name, units, numbers):
    attributes = {}
    for unit in units:
        conv = "_shortcut" if unit == "shortcut" else f"_conv{numbers[unit]}"
        attributes |= {conv: layers[f"{name}_{unit}_conv"], f"_norm{numbers[unit]}": layers[f"{name}_{unit}_bn"]}
    gate = {f"_se_{step}": layers.get(f"{name}_squeeze_{step}") for step in ("reduce", "expand")}
    return {**attributes, "_squeeze_excitation": SimpleNamespace(**gate)}


@pytest.fixture(scope="module", params=NETS)
def nets(request):
    """A model, another one whose weights are drawn, and the stand-in with the layers of the latter."""
    build, options, blocks = NETS[request.param]
    drawn = build(**options)
    layers = {layer.name: layer for layer in drawn.layers if layer.weights}
    for layer in layers.values():
        layer.set_weights(draw_weights(layer))
    return build(**options), drawn, build_source(layers, blocks)


def test_every_layer_gets_the_weights_of_its_counterpart(nets):
    model, drawn, source = nets
    load_model_garden_spinenet(model, source)
    for weight, expected in zip(model.weights, drawn.weights, strict=True):
        np.testing.assert_array_equal(weight, expected, err_msg=weight.path)


@pytest.mark.parametrize(("change", "message"), [(-1, "fewer layers. Build both"), (1, "more layers")])
def test_other_numbers_of_layers_are_refused(nets, change, message):
    model, _, source = nets
    extra = type("Conv2D", (), {"name": "layer_9999"})()
    layers = source.layers[1:] if change < 0 else [*source.layers, extra]
    with pytest.raises(WeightsError, match=f"source to be the same network as .*{message}"):
        load_model_garden_spinenet(model, SimpleNamespace(name="source", layers=layers))
