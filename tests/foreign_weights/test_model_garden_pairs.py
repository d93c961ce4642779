"""Each layer of a SpineNet is paired with the Model Garden's layer of the same place, here a stand-in with its name."""

import re
from types import SimpleNamespace

import pytest

from keras_lightdet.backbones import MobileSpineNet, SpineNet
from keras_lightdet.backbones.mobile_spinenet import MOBILE_SPINENET
from keras_lightdet.backbones.spinenet import SPINENET
from keras_lightdet.errors import WeightsError
from keras_lightdet.foreign_weights.model_garden import backbone_pairs

UNITS = ("reduce", "spatial", "depthwise1", "depthwise2", "depthwise3", "depthwise4", "depthwise5", "match")
# Convolution k and batch norm k of the Model Garden's blocks by the units of this package.
BLOCKS = {
    "BottleneckBlock": {"shortcut": 0, "reduce": 1, "spatial": 2, "expand": 3},
    "ResidualBlock": {"spatial1": 1, "spatial2": 2},
    "InvertedBottleneckBlock": {"expand": 0, "depthwise": 1, "project": 2},
}


def build_source(model, blocks):
    """Returns a stand-in for the Model Garden's network, whose layers are numbered in its order of creation."""
    layers = {layer.name: layer for layer in model.layers if layer.weights}
    created = []

    def create(kind, **attributes):
        created.append(type(kind, (), {**attributes, "name": f"layer_{len(created)}"})())

    resampling = [f"block{k}_from{p}_{u}" for k, block in enumerate(blocks, 2) for p in block.parents for u in UNITS]
    for name in ("stem", *resampling, *(f"p{level}_out" for level in range(3, 8))):
        if f"{name}_conv" in layers:
            create(type(layers[f"{name}_conv"]).__name__, place=f"{name}_conv")
            create("BatchNormalization", place=f"{name}_bn")
    for index in range(len(blocks) + 2):
        for copy in ("", "_copy1", "_copy2"):
            units = [re.fullmatch(rf"block{index}{copy}_(?!from|copy)(\w+)_conv", name) for name in layers]
            units = {match[1] for match in units if match}
            for kind, numbers in BLOCKS.items():
                if units and units <= set(numbers):
                    create(kind, **block_attributes(f"block{index}{copy}", units, numbers))
                    break
    return SimpleNamespace(name="source", layers=created[::-1])


def block_attributes(name, units, numbers):
    attributes = {}
    for unit in units:
        conv = "_shortcut" if unit == "shortcut" else f"_conv{numbers[unit]}"
        attributes |= {conv: f"{name}_{unit}_conv", f"_norm{numbers[unit]}": f"{name}_{unit}_bn"}
    gate = SimpleNamespace(_se_reduce=f"{name}_squeeze_reduce", _se_expand=f"{name}_squeeze_expand")
    return {**attributes, "_squeeze_excitation": gate}


@pytest.fixture(scope="module", params=[(SpineNet, "96", SPINENET), (MobileSpineNet, "49xs", MOBILE_SPINENET)])
def model_and_source(request):
    build, variant, blocks = request.param
    model = build(variant=variant)
    return model, build_source(model, blocks)


def test_every_layer_is_paired_with_its_counterpart(model_and_source):
    model, source = model_and_source
    pairs = {layer.name: getattr(other, "place", other) for layer, other in backbone_pairs(model, source)}
    assert pairs == {layer.name: layer.name for layer in model.layers if layer.weights}


@pytest.mark.parametrize(("change", "message"), [(-1, "fewer layers. Build both"), (1, "more layers")])
def test_other_numbers_of_layers_are_refused(model_and_source, change, message):
    model, source = model_and_source
    extra = type("Conv2D", (), {"name": "layer_9999"})()
    layers = source.layers[1:] if change < 0 else [*source.layers, extra]
    with pytest.raises(WeightsError, match=f"source to be the same network as .*{message}"):
        backbone_pairs(model, SimpleNamespace(name="source", layers=layers))
