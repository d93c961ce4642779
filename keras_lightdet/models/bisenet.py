"""BiSeNet: a wide shallow path for detail beside a deep narrow one for context (Yu et al. 2018)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
from keras import layers

from keras_lightdet.backbones import ResNet, Xception39
from keras_lightdet.backbones.imagenet import torch_conv
from keras_lightdet.builder import BACKBONE, builder, check_choice
from keras_lightdet.classification.model import HEAD
from keras_lightdet.layers import ResizeToMatch
from keras_lightdet.segmentation import SegmentationLoss, SegmentationModel, predict_pixels
from keras_lightdet.types import InputShape

WIDTH = 128  # of both paths where they are fused
SPATIAL_WIDTH = 64
HEAD_WIDTH = 64
FUSIONS = ("ffm", "sum")
LOSS = SegmentationLoss()


@dataclass(frozen=True)
class Variant:
    """A backbone of the context path, and the width of the auxiliary heads."""

    backbone: Callable[..., keras.Model]
    auxiliary_width: int


VARIANTS = {"xception39": Variant(Xception39, 128), "resnet18": Variant(partial(ResNet, depth=18), 256)}

# Backbone


def _backbone(variant: str, num_classes: int | None = None) -> keras.Model:
    return VARIANTS[variant].backbone(num_classes=num_classes, name=BACKBONE)


def _copy_backbone(classifier: keras.Model, model: SegmentationModel) -> None:
    """Copies the layers of the classifier, which are layers of the network itself under the same names."""
    for layer in classifier.layers:
        if layer.weights and layer.name != HEAD:
            model.network.get_layer(layer.name).set_weights(layer.get_weights())


# Neck: spatial path, context path, feature fusion module


def _spatial_path(x: keras.KerasTensor) -> keras.KerasTensor:
    """Three convolutions of stride 2 to an eighth of the sides (section 3.1)."""
    x = torch_conv(x, SPATIAL_WIDTH, 7, 2, activation="relu", name="spatial_conv1")
    for layer in (2, 3):
        x = torch_conv(x, SPATIAL_WIDTH, 3, 2, activation="relu", name=f"spatial_conv{layer}")
    return torch_conv(x, WIDTH, activation="relu", name="spatial_conv4")


def _context_path(
    p3: keras.KerasTensor, p4: keras.KerasTensor, p5: keras.KerasTensor, *, attention: bool, global_context: bool
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Refines the last two stages and upsamples them to P3's size (section 3.2); returns maps of strides 8 and 16."""
    refine = _arm if attention else _plain_refinement
    x = refine(p5, name="arm32")
    if global_context:
        context = layers.GlobalAveragePooling2D(keepdims=True, name="context_pool")(p5)
        context = torch_conv(context, WIDTH, activation="relu", name="context")
        x = layers.Add(name="context_add")([x, context])
    x = ResizeToMatch(name="upsample32")(x, p4)
    stride16 = torch_conv(x, WIDTH, 3, activation="relu", name="refine32")
    x = layers.Add(name="arm16_add")([refine(p4, name="arm16"), stride16])
    x = ResizeToMatch(name="upsample16")(x, p3)
    return torch_conv(x, WIDTH, 3, activation="relu", name="refine16"), stride16


def _arm(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    """Attention refinement module (figure 2b): the channels of a map, weighted by its global average."""
    x = _plain_refinement(x, name=name)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(x)
    gate = torch_conv(gate, WIDTH, activation="sigmoid", name=f"{name}_gate")
    return layers.Multiply(name=f"{name}_weigh")([x, gate])


def _plain_refinement(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    return torch_conv(x, WIDTH, 3, activation="relu", name=name)


def _ffm(spatial: keras.KerasTensor, context: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    """Feature fusion module (figure 2c): both paths mixed, plus the same with its channels weighted."""
    x = layers.Concatenate(name=f"{name}_concat")([spatial, context])
    x = torch_conv(x, x.shape[-1], activation="relu", name=name)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(x)
    for step, activation in enumerate(("relu", "sigmoid"), start=1):
        gate = layers.Conv2D(x.shape[-1], 1, activation=activation, use_bias=False, name=f"{name}_gate{step}")(gate)
    return layers.Add(name=f"{name}_add")([x, layers.Multiply(name=f"{name}_weigh")([x, gate])])


# Heads


def _head(x: keras.KerasTensor, width: int, num_classes: int, *, name: str) -> keras.KerasTensor:
    x = torch_conv(x, width, 3, activation="relu", name=name)
    return predict_pixels(x, num_classes, name=name)


# Model


@builder(VARIANTS, backbone=_backbone, copy_backbone=_copy_backbone)
def BiSeNet(  # noqa: N802 - builders are CapWords
    num_classes: int = 19,
    input_shape: InputShape = (1024, 2048, 3),
    *,
    variant: str = "xception39",
    weights: str | Path | None = None,
    weights_backbone: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    spatial_path: bool = True,
    global_context: bool = True,
    attention: bool = True,
    fusion: str = "ffm",
    loss: SegmentationLoss = LOSS,
    name: str = "bisenet",
) -> SegmentationModel:
    """Builds BiSeNet as in the first author's code, which defines what the paper's figures leave open.

    There the attention refinement module begins with a 3x3 convolution to 128 channels, the spatial path ends with a
    1x1 convolution, and maps are resized with aligned corners. Arguments that are left out come from the record of
    `weights`, else from the paper.

    Args:
        num_classes: Number of classes; 19 are those of Cityscapes.
        input_shape: `(height, width, 3)` in pixels, of any size.
        variant: "xception39" or "resnet18", the backbone of the context path.
        weights: A `.weights.h5` with its record, or its address, see `weights.resolve_weights`; random if left out.
        weights_backbone: A `.weights.h5` of a classifier `Xception39` or `ResNet` of depth 18 with its record.
        class_names: Names in label order; those of `weights`, else "class 0", "class 1", ..
        spatial_path, global_context, attention: Whether the network has these modules (table 3's ablation). Without
            attention the maps of stages 4 and 5 pass their 3x3 convolutions alone.
        fusion: "ffm", the feature fusion module, or "sum" of the paths.
        loss: See `SegmentationLoss`; by default that of the first author's code: all three heads with weight 1, hard
            pixels only.
        name: Name of the model.

    Returns:
        The segmenter; raw outputs `{"logits" [B, ceil(H/8), ceil(W/8), num_classes]}`.

    Raises:
        ValueError: If an argument is out of its range.
        WeightsError: If the weights are damaged, contradict an argument, or are of another backbone.

    Reference:
        Yu et al., "BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation", ECCV 2018.
    """
    check_choice("fusion", fusion, FUSIONS)
    backbone = _backbone(variant)
    p3, p4, p5 = (backbone.output[level] for level in ("P3", "P4", "P5"))
    stride8, stride16 = _context_path(p3, p4, p5, attention=attention, global_context=global_context)
    x = stride8
    if spatial_path:
        spatial = _spatial_path(backbone.get_layer("normalize").output)
        x = _ffm(spatial, x, name="ffm") if fusion == "ffm" else layers.Add(name="fuse")([spatial, x])
    auxiliary_width = VARIANTS[variant].auxiliary_width
    outputs = {
        "logits": _head(x, HEAD_WIDTH, num_classes, name="head"),
        "aux_p16": _head(stride16, auxiliary_width, num_classes, name="aux_p16"),
        "aux_p8": _head(stride8, auxiliary_width, num_classes, name="aux_p8"),
    }
    network = keras.Model(backbone.input, outputs, name="network")
    return SegmentationModel(network, class_names=class_names, input_size=input_shape[:2], loss=loss, name=name)
