"""torchvision's classifiers in our backbones: which of its modules each of our layers stands for."""

import re
from collections.abc import Mapping
from pathlib import Path

import keras

from keras_lightdet.backbones.efficientnet import STAGES as EFFICIENT_STAGES
from keras_lightdet.backbones.mobilenet_v2 import STAGES
from keras_lightdet.foreign_weights.assign import assign_tensors, with_our_epsilon
from keras_lightdet.foreign_weights.torch_file import read_tensors
from keras_lightdet.layers import TORCH_NORM

# Modules of torchvision's blocks by the names of ours: (convolution, batch norm).
_RESNET_PARTS = {
    "spatial1": ("conv1", "bn1"),
    "spatial2": ("conv2", "bn2"),
    "reduce": ("conv1", "bn1"),
    "spatial": ("conv2", "bn2"),
    "expand": ("conv3", "bn3"),
    "shortcut": ("downsample.0", "downsample.1"),
}
_SHUFFLE_PARTS = {
    "shortcut_depthwise": ("branch1.0", "branch1.1"),
    "shortcut_project": ("branch1.2", "branch1.3"),
    "expand": ("branch2.0", "branch2.1"),
    "depthwise": ("branch2.3", "branch2.4"),
    "project": ("branch2.5", "branch2.6"),
}
_RESNET_ENDS = {"stem_conv": "conv1", "stem_bn": "bn1", "classifier": "fc"}
_SHUFFLE_ENDS = {
    "stem_conv": "conv1.0",
    "stem_bn": "conv1.1",
    "conv5_conv": "conv5.0",
    "conv5_bn": "conv5.1",
    "classifier": "fc",
}
_RESNET_HEAD = ("fc.",)
_SHUFFLE_HEAD = ("conv5.", "fc.")
# torchvision numbers the convolutions of a block; the first block has no expansion, so its others come one earlier.
_MOBILE_PARTS = {"expand": ("0.0", "0.1"), "depthwise": ("1.0", "1.1"), "project": ("2", "3")}
_MOBILE_FIRST_PARTS = {"depthwise": ("0.0", "0.1"), "project": ("1", "2")}
_MOBILE_LAST = 1 + sum(stage.repeats for stage in STAGES)
_MOBILE_ENDS = {
    "stem_conv": "features.0.0",
    "stem_bn": "features.0.1",
    "last_conv": f"features.{_MOBILE_LAST}.0",
    "last_bn": f"features.{_MOBILE_LAST}.1",
    "classifier": "classifier.1",
}
_MOBILE_HEAD = (f"features.{_MOBILE_LAST}.", "classifier.")
# Those of EfficientNet's blocks; stage 1 does not expand, so that its parts come one earlier.
_EFFICIENT_PARTS = {
    "expand_conv": "0.0",
    "expand_bn": "0.1",
    "depthwise_conv": "1.0",
    "depthwise_bn": "1.1",
    "squeeze_reduce": "2.fc1",
    "squeeze_expand": "2.fc2",
    "project_conv": "3.0",
    "project_bn": "3.1",
}
_EFFICIENT_LAST = 1 + len(EFFICIENT_STAGES)
_EFFICIENT_ENDS = {
    "stem_conv": "features.0.0",
    "stem_bn": "features.0.1",
    "head_conv": f"features.{_EFFICIENT_LAST}.0",
    "head_bn": f"features.{_EFFICIENT_LAST}.1",
    "classifier": "classifier.1",
}
_EFFICIENT_HEAD = (f"features.{_EFFICIENT_LAST}.", "classifier.")
_SPLIT_LAYER = "stage2_block1_shuffle"  # units of stride 2 end in a shuffle in the form "split" only


def load_resnet(model: keras.Model, source: str | Path | Mapping) -> None:
    """Fills a `ResNet` with the weights of torchvision's `resnet18`, `34`, `50` or `101`.

    Args:
        model: The classifier or the features, of the same depth; `dilate_last` as you like.
        source: The `.pth` file of a state dict, or the state dict.

    Raises:
        WeightsError: If PyTorch is missing, or the weights are damaged or do not fit. The model stays as it was.
    """
    name, tensors = read_tensors(source)
    modules = {resnet_module(layer.name): layer for layer in model.layers if layer.weights}
    assign_tensors(modules, tensors, source=name, spare=() if "fc" in modules else _RESNET_HEAD)


def load_shufflenet_v2(model: keras.Model, source: str | Path | Mapping) -> None:
    """Fills a `ShuffleNetV2` with the weights of torchvision's `shufflenet_v2_x0_5`, `x1_0`, `x1_5` or `x2_0`.

    Args:
        model: The classifier or the features, of the same width and with `unit="split"`.
        source: The `.pth` file of a state dict, or the state dict.

    Raises:
        ValueError: If the model's units have another form, which some of these weights fit and mean nothing in.
        WeightsError: If PyTorch is missing, or the weights are damaged or do not fit. The model stays as it was.
    """
    if _SPLIT_LAYER not in {layer.name for layer in model.layers}:
        raise ValueError(f'Expected a ShuffleNetV2 with unit="split", got {model.name!r} with other units. Rebuild it.')
    name, tensors = read_tensors(source)
    modules = {shufflenet_module(layer.name): layer for layer in model.layers if layer.weights}
    assign_tensors(modules, tensors, source=name, spare=() if "fc" in modules else _SHUFFLE_HEAD)


def load_mobilenet_v2(model: keras.Model, source: str | Path | Mapping) -> None:
    """Fills a `MobileNetV2` with the weights of torchvision's `mobilenet_v2`.

    Args:
        model: The classifier or the features, of the same width and with `convention="torch"`.
        source: The `.pth` file of a state dict, or the state dict.

    Raises:
        ValueError: If the model has the other convention, which the weights fit and mean something else in.
        WeightsError: If PyTorch is missing, or the weights are damaged or do not fit. The model stays as it was.
    """
    if model.get_layer("stem_bn").epsilon != TORCH_NORM.epsilon:
        raise ValueError(f'Expected a MobileNetV2 with convention="torch", got {model.name!r} of another. Rebuild it.')
    name, tensors = read_tensors(source)
    modules = {mobilenet_module(layer.name): layer for layer in model.layers if layer.weights}
    spare = () if "classifier.1" in modules else _MOBILE_HEAD
    assign_tensors(modules, tensors, source=name, spare=spare)


def load_torchvision_efficientnet(
    model: keras.Model, source: str | Path | Mapping, *, epsilon: float = TORCH_NORM.epsilon
) -> None:
    """Fills an `EfficientNet` with the weights of torchvision's `efficientnet_b0` .. `b7`.

    Args:
        model: The classifier or the features, of the same variant and with `convention="torch"`.
        source: The `.pth` file of a state dict, or the state dict.
        epsilon: What the batch norms of the network of the weights add to their variances: 1e-5, and 1e-3 in
            torchvision's b5, b6 and b7.

    Raises:
        ValueError: If the model has the other convention, which the weights fit and mean something else in.
        WeightsError: If PyTorch is missing, or the weights are damaged or do not fit. The model stays as it was.
    """
    if model.get_layer("stem_bn").epsilon != TORCH_NORM.epsilon:
        raise ValueError(
            f'Expected an EfficientNet with convention="torch", got {model.name!r} of another. Rebuild it.'
        )
    name, tensors = read_tensors(source)
    modules = {torchvision_efficientnet_module(layer.name): layer for layer in model.layers if layer.weights}
    if epsilon != TORCH_NORM.epsilon:
        tensors = with_our_epsilon(tensors, modules, epsilon)
    assign_tensors(modules, tensors, source=name, spare=() if "classifier.1" in modules else _EFFICIENT_HEAD)


def resnet_module(layer_name: str) -> str:
    """Returns the torchvision module of a `ResNet` layer: "stage2_block1_reduce_conv" is "layer1.0.conv1".

    In a larger network the module stands behind a prefix, "backbone.body." in torchvision's detectors.

    Raises:
        ValueError: If the layer is none of a `ResNet`.
    """
    return _module(layer_name, _RESNET_ENDS, _RESNET_PARTS, "layer", first_stage=1)


def shufflenet_module(layer_name: str) -> str:
    """Returns the torchvision module of a `ShuffleNetV2` layer: "stage2_block1_expand_conv" is "stage2.0.branch2.0".

    Raises:
        ValueError: If the layer is none of a `ShuffleNetV2` that torchvision has.
    """
    return _module(layer_name, _SHUFFLE_ENDS, _SHUFFLE_PARTS, "stage", first_stage=2)


def mobilenet_module(layer_name: str) -> str:
    """Returns the torchvision module of a `MobileNetV2` layer: "stage2_block1_expand_bn" is "features.2.conv.0.1".

    Raises:
        ValueError: If the layer is none of a `MobileNetV2`.
    """
    if layer_name in _MOBILE_ENDS:
        return _MOBILE_ENDS[layer_name]
    found = _match(layer_name, _MOBILE_PARTS)
    stage, block = int(found[1]), int(found[2])
    index = sum(row.repeats for row in STAGES[: stage - 1]) + block
    conv, norm = (_MOBILE_FIRST_PARTS if index == 1 else _MOBILE_PARTS)[found[3]]
    return f"features.{index}.conv.{conv if found[4] == 'conv' else norm}"


def torchvision_efficientnet_module(layer_name: str) -> str:
    """Returns torchvision's module of an `EfficientNet` layer: "stage2_block1_expand_bn" is "features.2.0.block.0.1".

    Raises:
        ValueError: If the layer is none of an `EfficientNet`.
    """
    if layer_name in _EFFICIENT_ENDS:
        return _EFFICIENT_ENDS[layer_name]
    found = re.fullmatch(r"stage(\d)_block(\d+)_(\w+)", layer_name)
    if not found or found[3] not in _EFFICIENT_PARTS:
        raise ValueError(f"Expected a layer of an EfficientNet, got {layer_name!r}. Build it by EfficientNet.")
    place, _, rest = _EFFICIENT_PARTS[found[3]].partition(".")
    place = int(place) - (found[1] == "1")
    return f"features.{found[1]}.{int(found[2]) - 1}.block.{place}.{rest}"


def _module(layer_name: str, ends: Mapping, parts: Mapping, stage_name: str, *, first_stage: int) -> str:
    """Stages are counted from 2 here, and from `first_stage` there; blocks from 1 here, and from 0 there."""
    if layer_name in ends:
        return ends[layer_name]
    found = _match(layer_name, parts)
    stage, block = int(found[1]) - 2 + first_stage, int(found[2]) - 1
    conv, norm = parts[found[3]]
    return f"{stage_name}{stage}.{block}.{conv if found[4] == 'conv' else norm}"


def _match(layer_name: str, parts: Mapping) -> re.Match:
    """Returns stage, block, part, and "conv" or "bn"."""
    found = re.fullmatch(r"stage(\d+)_block(\d+)_(\w+)_(conv|bn)", layer_name)
    if not found or found[3] not in parts:
        raise ValueError(f"Expected a layer that torchvision has, got {layer_name!r}. Build the model without it.")
    return found
