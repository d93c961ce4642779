"""Loads weights of torchvision's classifiers into the backbones."""

from pathlib import Path

import keras

from keras_lightdet.backbones.efficientnet import STAGES as EFFICIENT_STAGES
from keras_lightdet.backbones.mobilenet_v2 import STAGES as MOBILE_STAGES
from keras_lightdet.foreign_weights.module_names import ModuleNames, conv_bn
from keras_lightdet.foreign_weights.torch_file import StateDict
from keras_lightdet.layers import TORCH_NORM

RESNET = ModuleNames(
    "ResNet",
    ends={**conv_bn(stem=("conv1", "bn1")), "classifier": "fc"},
    units=conv_bn(
        spatial1=("conv1", "bn1"),
        spatial2=("conv2", "bn2"),
        reduce=("conv1", "bn1"),
        spatial=("conv2", "bn2"),
        expand=("conv3", "bn3"),
        shortcut=("downsample.0", "downsample.1"),
    ),
    block=lambda stage, block: f"layer{stage - 1}.{block - 1}.",
)
SHUFFLENET = ModuleNames(
    "ShuffleNetV2",
    ends={**conv_bn(stem=("conv1.0", "conv1.1"), conv5=("conv5.0", "conv5.1")), "classifier": "fc"},
    units=conv_bn(
        shortcut_depthwise=("branch1.0", "branch1.1"),
        shortcut_project=("branch1.2", "branch1.3"),
        expand=("branch2.0", "branch2.1"),
        depthwise=("branch2.3", "branch2.4"),
        project=("branch2.5", "branch2.6"),
    ),
    block=lambda stage, block: f"stage{stage}.{block - 1}.",
)
_MOBILE_LAST = f"features.{sum(stage.repeats for stage in MOBILE_STAGES) + 1}"
MOBILENET = ModuleNames(
    "MobileNetV2",
    ends={
        **conv_bn(stem=("features.0.0", "features.0.1"), last=(f"{_MOBILE_LAST}.0", f"{_MOBILE_LAST}.1")),
        "classifier": "classifier.1",
    },
    units=conv_bn(expand=("0.0", "0.1"), depthwise=("1.0", "1.1"), project=("2", "3")),
    first_units=conv_bn(depthwise=("0.0", "0.1"), project=("1", "2")),
    block=lambda stage, block: f"features.{sum(row.repeats for row in MOBILE_STAGES[: stage - 1]) + block}.conv.",
)
_EFFICIENT_LAST = f"features.{len(EFFICIENT_STAGES) + 1}"
EFFICIENTNET = ModuleNames(
    "EfficientNet",
    ends={
        **conv_bn(stem=("features.0.0", "features.0.1"), head=(f"{_EFFICIENT_LAST}.0", f"{_EFFICIENT_LAST}.1")),
        "classifier": "classifier.1",
    },
    units={
        **conv_bn(expand=("0.0", "0.1"), depthwise=("1.0", "1.1"), project=("3.0", "3.1")),
        "squeeze_reduce": "2.fc1",
        "squeeze_expand": "2.fc2",
    },
    first_units={
        **conv_bn(depthwise=("0.0", "0.1"), project=("2.0", "2.1")),
        "squeeze_reduce": "1.fc1",
        "squeeze_expand": "1.fc2",
    },
    block=lambda stage, block: f"features.{stage}.{block - 1}.block.",
)
_SPLIT_LAYER = "stage2_block1_shuffle"  # units of stride 2 end in a shuffle only in the form "split"


def load_resnet(model: keras.Model, source: str | Path | StateDict) -> None:
    """Loads weights of torchvision's `resnet18`, `34`, `50` or `101` into a `ResNet`.

    Args:
        model: The classifier or the features, of the same depth, with any `dilate_last`.
        source: The `.pth` file of a state dict, or the state dict.

    Raises:
        WeightsError: If PyTorch is missing, or the weights are damaged or do not fit. The model does not change then.
    """
    RESNET.load(model, source)


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
    SHUFFLENET.load(model, source)


def load_mobilenet_v2(model: keras.Model, source: str | Path | StateDict) -> None:
    """Loads weights of torchvision's `mobilenet_v2` into a `MobileNetV2`.

    Args:
        model: The classifier or the features, of the same width and with `convention="torch"`.
        source: The `.pth` file of a state dict, or the state dict.

    Raises:
        ValueError: If the model has the other convention, with which the weights give other results.
        WeightsError: If PyTorch is missing, or the weights are damaged or do not fit. The model does not change then.
    """
    MOBILENET.check_convention(model, "torch")
    MOBILENET.load(model, source)


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
    EFFICIENTNET.check_convention(model, "torch")
    EFFICIENTNET.load(model, source, epsilon=epsilon)
