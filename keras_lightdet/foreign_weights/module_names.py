"""The layers of a backbone under the names that another library gives them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import keras

from keras_lightdet.builder import BACKBONE
from keras_lightdet.foreign_weights.assign import assign_tensors, scale_gammas
from keras_lightdet.foreign_weights.torch_file import StateDict, read_tensors
from keras_lightdet.layers import NORM, TORCH_NORM

_EPSILONS = {"keras": NORM.epsilon, "torch": TORCH_NORM.epsilon}


@dataclass(frozen=True)
class ModuleNames:
    """The modules of a network of another library by the names of a backbone's layers."""

    network: str  # name of the backbone's builder
    ends: Mapping[str, str]  # the modules outside of blocks, by layer
    units: Mapping[str, str]  # the modules inside a block, by the rest of the layer's name, such as "expand_conv"
    block: Callable[[int, int], str]  # the prefix of a block's modules, by its stage and number in it, both from 1
    first_units: Mapping[str, str] | None = None  # `units` of stage 1, if they differ

    def module(self, layer_name: str) -> str:
        """Returns the module of a layer, or raises a `ValueError` if the other library's network has no such layer."""
        if layer_name in self.ends:
            return self.ends[layer_name]
        match = re.fullmatch(r"stage(\d+)_block(\d+)_(\w+)", layer_name)
        if match:
            stage, block, unit = int(match[1]), int(match[2]), match[3]
            units = self.first_units if stage == 1 and self.first_units else self.units
            if unit in units:
                return self.block(stage, block) + units[unit]
        raise ValueError(
            f"Expected a layer of {self.network} that the other library has, got {layer_name!r}. Build the model by "
            f"{self.network}, without options that the library lacks."
        )

    def load(self, model: keras.Model, source: str | Path | StateDict, *, epsilon: float = TORCH_NORM.epsilon) -> None:
        """Loads a state dict of PyTorch, or its file; features do not need the tensors of the classifier."""
        source_name, tensors = read_tensors(source)
        layers = {layer.name: layer for layer in model.layers}
        modules = {self.module(name): layer for name, layer in layers.items() if layer.weights}
        tensors = scale_gammas(tensors, modules, epsilon)
        of_classifier = [f"{module}." for name, module in self.ends.items() if name not in layers]
        assign_tensors(modules, tensors, source=source_name, ignore_prefixes=of_classifier)

    def check_convention(self, model: keras.Model, convention: str) -> None:
        """Raises a `ValueError` for a model of another convention, which the tensors would fit too."""
        if model.get_layer("stem_bn").epsilon != _EPSILONS[convention]:
            raise ValueError(
                f'Expected {self.network} with convention="{convention}", got {model.name!r} of another. Rebuild it.'
            )


def conv_bn(**units: tuple[str, str]) -> dict[str, str]:
    """Returns `ModuleNames.units` for convolutions and their batch norms: `conv_bn(reduce=("conv1", "bn1"), ..)`."""
    named: dict[str, str] = {}
    for unit, (conv, norm) in units.items():
        named |= {f"{unit}_conv": conv, f"{unit}_bn": norm}
    return named


def named_layers(*networks: keras.Model) -> dict[str, keras.Layer]:
    """Returns the layers with weights by name; the names of a backbone's layers start with "backbone/"."""
    named: dict[str, keras.Layer] = {}
    for layer in (layer for network in networks for layer in network.layers):
        if layer.name == BACKBONE:
            named |= {f"{BACKBONE}/{inner.name}": inner for inner in layer.layers}
        else:
            named[layer.name] = layer
    return {path: layer for path, layer in named.items() if layer.weights}
