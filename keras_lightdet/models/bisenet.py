"""BiSeNet: a wide shallow path for detail beside a deep narrow one for context (Yu et al. 2018)."""

from collections.abc import Sequence
from pathlib import Path

import keras
from keras import layers

from keras_lightdet.backbones import ResNet, Xception39
from keras_lightdet.backbones.imagenet import torch_conv
from keras_lightdet.layers import ResizeToMatch
from keras_lightdet.models.building import check_input_shape, check_variant, choose_arguments, load_backbone
from keras_lightdet.segmentation import SegmentationLoss, SegmentationModel, predict_pixels
from keras_lightdet.weights import load_weights

WIDTH = 128  # of both paths where they meet
SPATIAL_STEM = 64
MAIN_HEAD_WIDTH = 64
VARIANTS = {"xception39": Xception39, "resnet18": ResNet}
AUXILIARY_WIDTHS = {"xception39": 128, "resnet18": 256}
DEFAULTS = {
    "num_classes": 19,
    "input_shape": (1024, 2048, 3),
    "variant": "xception39",
    "spatial_path": True,
    "global_context": True,
    "attention": True,
    "fusion": "ffm",
}


def BiSeNet(  # noqa: N802 - builders are CapWords
    num_classes: int | None = None,
    input_shape: tuple[int, int, int] | None = None,
    *,
    variant: str | None = None,
    weights: str | Path | None = None,
    weights_backbone: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    spatial_path: bool | None = None,
    global_context: bool | None = None,
    attention: bool | None = None,
    fusion: str | None = None,
    loss: SegmentationLoss | None = None,
    name: str | None = None,
) -> SegmentationModel:
    """Builds BiSeNet as in the first author's code, which says what the paper's figures leave open.

    There the attention refinement module begins with a 3x3 convolution to 128 channels, the spatial path ends with a
    1x1 convolution, and maps are enlarged with their corners aligned. What is `None` comes from the record of
    `weights`, else from the paper.

    Args:
        num_classes: Classes to tell apart; 19, those of Cityscapes.
        input_shape: `(height, width, 3)` in pixels, of any size; 1024 x 2048.
        variant: "xception39" or "resnet18", the backbone of the context path; "xception39".
        weights: A `.weights.h5` of ours with its record, or its `https` address with `#sha256=`; `None` starts from
            noise.
        weights_backbone: A `.weights.h5` of a classifier `Xception39` or `ResNet` of depth 18 with its record.
        class_names: Names in label order; "class 0", "class 1", .. where neither this nor `weights` tells.
        spatial_path, global_context, attention: Whether these parts are there (table 3's ablation). Without
            attention the maps of stages 4 and 5 pass their 3x3 convolutions alone.
        fusion: "ffm", the feature fusion module, or "sum" of the paths.
        loss: See `SegmentationLoss`; that of the first author's code: all three heads weigh 1, hard pixels only.
        name: Name of the model.

    Returns:
        The segmenter; raw outputs `{"logits" [B, ceil(H/8), ceil(W/8), num_classes]}`.

    Raises:
        ValueError: If an argument is out of its range.
        WeightsError: If the weights are damaged, contradict an argument, or are of another backbone.

    Reference:
        Yu et al., "BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation", ECCV 2018.
    """
    given = {
        "num_classes": num_classes,
        "input_shape": input_shape,
        "variant": variant,
        "spatial_path": spatial_path,
        "global_context": global_context,
        "attention": attention,
        "fusion": fusion,
    }
    choice = choose_arguments(
        given, DEFAULTS, builder="BiSeNet", weights=weights, class_names=class_names, weights_backbone=weights_backbone
    )
    chosen = choice.arguments
    check_variant(chosen["variant"], VARIANTS)
    check_input_shape(chosen["input_shape"])
    if chosen["fusion"] not in ("ffm", "sum"):
        raise ValueError(f"Expected fusion to be 'ffm' or 'sum', got {chosen['fusion']!r}.")
    backbone = _backbone(chosen["variant"])
    model = SegmentationModel(
        _network(backbone, chosen),
        class_names=choice.class_names,
        input_size=chosen["input_shape"][:2],
        loss=loss,
        architecture=choice.architecture,
        name=name or "bisenet",
    )
    if choice.weights is not None:
        load_weights(model, choice.weights)
    if weights_backbone is not None:
        load_backbone(backbone, lambda num_classes: _backbone(chosen["variant"], num_classes), weights_backbone)
    return model


def _backbone(variant: str, num_classes: int | None = None) -> keras.Model:
    options = {"depth": 18} if variant == "resnet18" else {}
    return VARIANTS[variant](num_classes=num_classes, **options)


def _network(backbone: keras.Model, chosen: dict) -> keras.Model:
    """Figure 2: the two paths, their fusion, and a head on each of three maps."""
    features = backbone.output
    p8, p16 = _context_path(features["P4"], features["P5"], features["P3"], chosen)
    x = p8
    if chosen["spatial_path"]:
        spatial = _spatial_path(backbone.get_layer("normalize").output)
        x = _ffm(spatial, p8, name="ffm") if chosen["fusion"] == "ffm" else layers.Add(name="fuse")([spatial, p8])
    num_classes, auxiliary = chosen["num_classes"], AUXILIARY_WIDTHS[chosen["variant"]]
    outputs = {
        "logits": _head(x, MAIN_HEAD_WIDTH, num_classes, name="head"),
        "aux_p16": _head(p16, auxiliary, num_classes, name="aux_p16"),
        "aux_p8": _head(p8, auxiliary, num_classes, name="aux_p8"),
    }
    return keras.Model(backbone.input, outputs, name="network")


def _spatial_path(x: keras.KerasTensor) -> keras.KerasTensor:
    """Three convolutions of stride 2 keep an eighth of the detail (section 3.1)."""
    x = torch_conv(x, SPATIAL_STEM, 7, 2, activation="relu", name="spatial_conv1")
    for layer in (2, 3):
        x = torch_conv(x, SPATIAL_STEM, 3, 2, activation="relu", name=f"spatial_conv{layer}")
    return torch_conv(x, WIDTH, activation="relu", name="spatial_conv4")


def _context_path(
    c16: keras.KerasTensor, c32: keras.KerasTensor, like: keras.KerasTensor, chosen: dict
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """From the last two stages up to the size of `like` (section 3.2); returns the maps of strides 8 and 16."""
    refine = _arm if chosen["attention"] else _plain_refinement
    x = refine(c32, name="arm32")
    if chosen["global_context"]:
        whole = layers.GlobalAveragePooling2D(keepdims=True, name="context_pool")(c32)
        whole = torch_conv(whole, WIDTH, activation="relu", name="context")
        x = layers.Add(name="context_add")([x, whole])
    x = ResizeToMatch(name="enlarge32")(x, c16)
    p16 = torch_conv(x, WIDTH, 3, activation="relu", name="refine32")
    x = layers.Add(name="arm16_add")([refine(c16, name="arm16"), p16])
    x = ResizeToMatch(name="enlarge16")(x, like)
    return torch_conv(x, WIDTH, 3, activation="relu", name="refine16"), p16


def _arm(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    """Attention refinement module (figure 2b): a map weighed, channel by channel, by its own average."""
    x = _plain_refinement(x, name=name)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(x)
    gate = torch_conv(gate, WIDTH, activation="sigmoid", name=f"{name}_gate")
    return layers.Multiply(name=f"{name}_weigh")([x, gate])


def _plain_refinement(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    return torch_conv(x, WIDTH, 3, activation="relu", name=name)


def _ffm(spatial: keras.KerasTensor, context: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    """Feature fusion module (figure 2c): both paths mixed, and what of it matters added once more."""
    x = layers.Concatenate(name=f"{name}_concat")([spatial, context])
    x = torch_conv(x, x.shape[-1], activation="relu", name=name)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(x)
    for place, activation in enumerate(("relu", "sigmoid"), start=1):
        gate = layers.Conv2D(x.shape[-1], 1, activation=activation, use_bias=False, name=f"{name}_gate{place}")(gate)
    return layers.Add(name=f"{name}_add")([x, layers.Multiply(name=f"{name}_weigh")([x, gate])])


def _head(x: keras.KerasTensor, width: int, num_classes: int, *, name: str) -> keras.KerasTensor:
    x = torch_conv(x, width, 3, activation="relu", name=name)
    return predict_pixels(x, num_classes, name=name)
