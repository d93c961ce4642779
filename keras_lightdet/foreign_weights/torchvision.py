"""Loads weights of torchvision's classifiers into the backbones."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keras

from keras_lightdet.backbones.efficientnet import STAGES as EFFICIENT_STAGES
from keras_lightdet.backbones.mobilenet_v2 import STAGES
from keras_lightdet.classification.model import HEAD
from keras_lightdet.foreign_weights.assign import assign_tensors, scale_gammas
from keras_lightdet.foreign_weights.torch_file import StateDict, read_tensors
from keras_lightdet.layers import TORCH_NORM

# Modules of torchvision's blocks, (convolution, batch norm), by the names of the units of this package.
_RESNET_UNITS = {
    "spatial1": ("conv1", "bn1"),
    "spatial2": ("conv2", "bn2"),
    "reduce": ("conv1", "bn1"),
    "spatial": ("conv2", "bn2"),
    "expand": ("conv3", "bn3"),
    "shortcut": ("downsample.0", "downsample.1"),
}
_SHUFFLE_UNITS = {
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
# torchvision numbers the convolutions of a block; in the first block, without expansion, by one less.
_MOBILE_UNITS = {"expand": ("0.0", "0.1"), "depthwise": ("1.0", "1.1"), "project": ("2", "3")}
_MOBILE_FIRST_UNITS = {"depthwise": ("0.0", "0.1"), "project": ("1", "2")}
_MOBILE_LAST = 1 + sum(stage.repeats for stage in STAGES)
_MOBILE_ENDS = {
    "stem_conv": "features.0.0",
    "stem_bn": "features.0.1",
    "last_conv": f"features.{_MOBILE_LAST}.0",
    "last_bn": f"features.{_MOBILE_LAST}.1",
    "classifier": "classifier.1",
}
_MOBILE_HEAD = (f"features.{_MOBILE_LAST}.", "classifier.")
# Of EfficientNet's blocks; in stage 1, without expansion, the numbers are less by one.
_EFFICIENT_LAYERS = {
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
_SPLIT_LAYER = "stage2_block1_shuffle"  # units of stride 2 end in a shuffle only in the form "split"


def load_resnet(model: keras.Model, source: str | Path | StateDict) -> None:
    """Loads weights of torchvision's `resnet18`, `34`, `50` or `101` into a `ResNet`.

    Args:
        model: The classifier or the features, of the same depth, with any `dilate_last`.
        source: The `.pth` file of a state dict, or the state dict.

    Raises:
        WeightsError: If PyTorch is missing, or the weights are damaged or do not fit. The model does not change then.
    """
    _load(model, source, resnet_module, head=_RESNET_HEAD)


def load_shufflenet_v2(model: keras.Model, source: str | Path | StateDict) -> None:
    """Loads weights of torchvision's `shufflenet_v2_x0_5`, `x1_0`, `x1_5` or `x2_0` into a `ShuffleNetV2`.

    Args:
        model: The classifier or the features, of the same width and with `unit="split"`.
        source: The `.pth` file of a state dict, or the state dict.

    Raises:
        ValueError: If the model's units have another form, in which some of these weights give other results.
        WeightsError: If PyTorch is missing, or the weights are damaged or do not fit. The model does not change then.
    """
    if _SPLIT_LAYER not in {layer.name for layer in model.layers}:
        raise ValueError(f'Expected a ShuffleNetV2 with unit="split", got {model.name!r} with other units. Rebuild it.')
    _load(model, source, shufflenet_module, head=_SHUFFLE_HEAD)


def load_mobilenet_v2(model: keras.Model, source: str | Path | StateDict) -> None:
    """Loads weights of torchvision's `mobilenet_v2` into a `MobileNetV2`.

    Args:
        model: The classifier or the features, of the same width and with `convention="torch"`.
        source: The `.pth` file of a state dict, or the state dict.

    Raises:
        ValueError: If the model has the other convention, with which the weights give other results.
        WeightsError: If PyTorch is missing, or the weights are damaged or do not fit. The model does not change then.
    """
    _check_convention(model, "a MobileNetV2")
    _load(model, source, mobilenet_module, head=_MOBILE_HEAD)


def load_torchvision_efficientnet(
    model: keras.Model, source: str | Path | StateDict, *, epsilon: float = TORCH_NORM.epsilon
) -> None:
    """Loads weights of torchvision's `efficientnet_b0` .. `b7` into an `EfficientNet`.

    Args:
        model: The classifier or the features, of the same variant and with `convention="torch"`.
        source: The `.pth` file of a state dict, or the state dict.
        epsilon: Of the batch norms of the network that the weights are from: 1e-5, in torchvision's b5, b6 and b7 1e-3.

    Raises:
        ValueError: If the model has the other convention, with which the weights give other results.
        WeightsError: If PyTorch is missing, or the weights are damaged or do not fit. The model does not change then.
    """
    _check_convention(model, "an EfficientNet")
    _load(model, source, torchvision_efficientnet_module, head=_EFFICIENT_HEAD, epsilon=epsilon)


def resnet_module(layer_name: str) -> str:
    """Returns the torchvision module of a `ResNet` layer: "layer1.0.conv1" for "stage2_block1_reduce_conv".

    In torchvision's detectors the module has the prefix "backbone.body.".

    Raises:
        ValueError: If the layer is not from a `ResNet`.
    """
    return _module(layer_name, _RESNET_ENDS, _RESNET_UNITS, "layer", first_stage=1)


def shufflenet_module(layer_name: str) -> str:
    """Returns the torchvision module of a `ShuffleNetV2` layer: "stage2.0.branch2.0" for "stage2_block1_expand_conv".

    Raises:
        ValueError: If the layer is not from a `ShuffleNetV2` that torchvision has.
    """
    return _module(layer_name, _SHUFFLE_ENDS, _SHUFFLE_UNITS, "stage", first_stage=2)


def mobilenet_module(layer_name: str) -> str:
    """Returns the torchvision module of a `MobileNetV2` layer: "features.2.conv.0.1" for "stage2_block1_expand_bn".

    Raises:
        ValueError: If the layer is not from a `MobileNetV2`.
    """
    if layer_name in _MOBILE_ENDS:
        return _MOBILE_ENDS[layer_name]
    stage, block, unit, kind = _parse(layer_name, _MOBILE_UNITS)
    index = sum(row.repeats for row in STAGES[: stage - 1]) + block
    conv, norm = (_MOBILE_FIRST_UNITS if index == 1 else _MOBILE_UNITS)[unit]
    return f"features.{index}.conv.{conv if kind == 'conv' else norm}"


def torchvision_efficientnet_module(layer_name: str) -> str:
    """Returns the torchvision module of an `EfficientNet` layer: "features.2.0.block.0.1" for
    "stage2_block1_expand_bn".

    Raises:
        ValueError: If the layer is not from an `EfficientNet`.
    """
    if layer_name in _EFFICIENT_ENDS:
        return _EFFICIENT_ENDS[layer_name]
    match = re.fullmatch(r"stage(\d)_block(\d+)_(\w+)", layer_name)
    if not match or match[3] not in _EFFICIENT_LAYERS:
        raise ValueError(f"Expected a layer of an EfficientNet, got {layer_name!r}. Build it by EfficientNet.")
    number, _, suffix = _EFFICIENT_LAYERS[match[3]].partition(".")
    return f"features.{match[1]}.{int(match[2]) - 1}.block.{int(number) - (match[1] == '1')}.{suffix}"


def _load(
    model: keras.Model,
    source: str | Path | StateDict,
    module_name: Callable[[str], str],
    *,
    head: Sequence[str],
    epsilon: float = TORCH_NORM.epsilon,
) -> None:
    """Loads weights into a backbone, which does not need the modules with the prefixes `head` without a classifier."""
    name, tensors = read_tensors(source)
    modules = {module_name(layer.name): layer for layer in model.layers if layer.weights}
    if epsilon != TORCH_NORM.epsilon:
        tensors = scale_gammas(tensors, modules, epsilon)
    is_classifier = any(layer.name == HEAD for layer in model.layers)
    assign_tensors(modules, tensors, source=name, ignore_prefixes=() if is_classifier else head)


def _check_convention(model: keras.Model, expected: str) -> None:
    if model.get_layer("stem_bn").epsilon != TORCH_NORM.epsilon:
        raise ValueError(f'Expected {expected} with convention="torch", got {model.name!r} of another. Rebuild it.')


def _module(
    layer_name: str,
    ends: Mapping[str, str],
    units: Mapping[str, tuple[str, str]],
    stage_name: str,
    *,
    first_stage: int,
) -> str:
    """Returns the module of a layer of a stage. The first stage is 2 in this package and `first_stage` in torchvision;
    blocks are counted from 1 and from 0.
    """
    if layer_name in ends:
        return ends[layer_name]
    stage, block, unit, kind = _parse(layer_name, units)
    conv, norm = units[unit]
    return f"{stage_name}{stage - 2 + first_stage}.{block - 1}.{conv if kind == 'conv' else norm}"


def _parse(layer_name: str, units: Mapping[str, tuple[str, str]]) -> tuple[int, int, str, str]:
    """Returns stage, block, unit, and "conv" or "bn"."""
    match = re.fullmatch(r"stage(\d+)_block(\d+)_(\w+)_(conv|bn)", layer_name)
    if not match or match[3] not in units:
        raise ValueError(f"Expected a layer that torchvision has, got {layer_name!r}. Build the model without it.")
    return int(match[1]), int(match[2]), match[3], match[4]
