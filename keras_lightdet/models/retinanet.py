"""RetinaNet (Lin et al. 2017): dense prediction on SpineNet's pyramid, or on a ResNet's or MobileNetV2's with FPN."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
from keras import layers

from keras_lightdet.backbones import MobileNetV2, MobileSpineNet, ResNet, SpineNet
from keras_lightdet.backbones.scale_permuted import Block
from keras_lightdet.boxes import PyramidAnchors, SelectSpec
from keras_lightdet.builder import BACKBONE, DERIVED, builder
from keras_lightdet.detection import AnchorObjective, OneStageDetector
from keras_lightdet.layers import NORM, activate, batch_norm, dense_heads, fpn
from keras_lightdet.types import InputShape, Tensors

STRIDES = (8, 16, 32, 64, 128)
NUM_CLASSES = 91  # the released models predict COCO's ids, 0 to 90
PER_CELL = 9  # three sizes at three aspect ratios
OPTION_DEFAULTS: dict[str, Any] = {"blocks": None, "out_width": None, "drop_path_rate": 0.0, "drop_block": 0.0}
SELECT = SelectSpec(iou_threshold=0.5)


@dataclass(frozen=True)
class Variant:
    """A published RetinaNet."""

    backbone: Callable[..., keras.Model]
    input_shape: InputShape
    width: int  # channels of the heads, and of an FPN
    fpn: bool = False  # whether an FPN is built on the features; a SpineNet's features are the pyramid
    head_repeats: int = 4  # convolutions of a head before its prediction
    separable: bool = False  # whether the heads' convolutions are depthwise and then 1x1
    anchor_scale: float = 3.0
    activation: str = "relu"


_mobile = partial(Variant, separable=True, activation="swish")
VARIANTS = {
    "spinenet49s": Variant(partial(SpineNet, variant="49s"), (640, 640, 3), 128),
    "spinenet49": Variant(partial(SpineNet, variant="49"), (640, 640, 3), 256),
    "spinenet96": Variant(partial(SpineNet, variant="96"), (1024, 1024, 3), 256),
    "spinenet143": Variant(partial(SpineNet, variant="143"), (1280, 1280, 3), 256, anchor_scale=4.0),
    "spinenet190": Variant(partial(SpineNet, variant="190"), (1280, 1280, 3), 512, head_repeats=7, anchor_scale=4.0),
    "mobile_spinenet49xs": _mobile(partial(MobileSpineNet, variant="49xs"), (256, 256, 3), 24),
    "mobile_spinenet49s": _mobile(partial(MobileSpineNet, variant="49s"), (384, 384, 3), 40),
    "mobile_spinenet49": _mobile(partial(MobileSpineNet, variant="49"), (384, 384, 3), 48),
    "resnet50_fpn": Variant(partial(ResNet, depth=50), (640, 640, 3), 256, fpn=True),
    "resnet101_fpn": Variant(partial(ResNet, depth=101), (1024, 1024, 3), 256, fpn=True),
    # No paper publishes these widths.
    "mobilenetv2_fpn": Variant(MobileNetV2, (384, 384, 3), 96, fpn=True, separable=True),
}

# Backbone


def _backbone(
    variant: str,
    activation: str,
    blocks: Sequence[Block] | None,
    out_width: int | None,
    drop_path_rate: float,
    drop_block: float,
    num_classes: int | None = None,
) -> keras.Model:
    """Builds the variant's backbone with the options that it has; others must have their defaults."""
    build = VARIANTS[variant].backbone
    options = {"blocks": blocks, "out_width": out_width, "drop_path_rate": drop_path_rate, "drop_block": drop_block}
    accepted = inspect.signature(build).parameters
    for key, default in OPTION_DEFAULTS.items():
        if key not in accepted and options[key] != default:
            raise ValueError(f"Expected {key} to be {default}, got {options[key]!r}: {variant} has none. Leave it out.")
    values: dict[str, Any] = {**options, "activation": activation}
    return build(**{key: values[key] for key in values if key in accepted}, num_classes=num_classes, name=BACKBONE)


# Neck


def _retina_pyramid(features: Tensors, width: int, activation: str) -> Tensors:
    """FPN on P3 to P5, two convolutions of stride 2 for P6 and P7, a batch norm on each level."""
    pyramid = fpn({level: features[level] for level in ("P3", "P4", "P5")}, width)
    for level, finer in (("P6", "P5"), ("P7", "P6")):
        x = pyramid[finer]
        name = f"fpn_{level.lower()}_out"
        if level == "P7":
            x = activate(x, activation, name="fpn_p7_act")
        pyramid[level] = layers.Conv2D(width, 3, 2, padding="same", name=name)(x)
    return {level: batch_norm(x, name=f"fpn_{level.lower()}_bn") for level, x in pyramid.items()}


# Heads: class and box subnets, see `layers.dense_heads`, on `STRIDES`.

# Model


@builder(VARIANTS, backbone=_backbone)
def RetinaNet(  # noqa: N802 - builders are CapWords
    num_classes: int = NUM_CLASSES,
    input_shape: InputShape = DERIVED,
    *,
    variant: str = "mobile_spinenet49",
    weights: str | Path | None = None,
    weights_backbone: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    activation: str = DERIVED,
    blocks: Sequence[Block] | None = None,
    out_width: int | None = None,
    anchor_scale: float = DERIVED,
    drop_path_rate: float = 0.0,
    drop_block: float = 0.0,
    select: SelectSpec = SELECT,
    name: str = "retinanet",
) -> OneStageDetector:
    """Builds RetinaNet, a one-stage detector on strides 8 to 128.

    The heads are those of SpineNet's authors: a batch norm for each level after convolutions that all levels share.
    Arguments that are left out come from the record of `weights`, else from the variant.

    Args:
        num_classes: Number of classes; the published cost is that of 91.
        input_shape: `(height, width, 3)` in pixels, of any size; the variant's square.
        variant: "spinenet49s", "spinenet49", "spinenet96", "spinenet143" or "spinenet190"; "mobile_spinenet49xs",
            "mobile_spinenet49s" or "mobile_spinenet49"; "resnet50_fpn", "resnet101_fpn" or "mobilenetv2_fpn".
        weights: A `.weights.h5` with its record, or its address, see `weights.resolve_weights`; random if left out.
        weights_backbone: A `.weights.h5` of a classifier of the variant's backbone with its record.
        class_names: Names in label order; those of `weights`, else "class 0", "class 1", ..
        activation: Of the heads, and of a SpineNet: "relu", or "swish" in protocol C and in the mobile variants.
        blocks: The scale-permuted part of a SpineNet, such as a result of `backbones.spinenet_search`; the paper's.
        out_width: Channels of a SpineNet's pyramid; its variant's. The published 11.9 M parameters of "spinenet49s"
            are met with 256.
        anchor_scale: Smallest anchor of a level over its stride; smaller for smaller objects.
        drop_path_rate: See `SpineNet` and `MobileSpineNet`.
        drop_block: See `SpineNet`.
        select: How detections are selected from the decoded boxes.
        name: Name of the model.

    Returns:
        The detector; raw outputs `{"box_deltas" [B, N, 4], "class_logits" [B, N, num_classes]}`.

    Raises:
        ValueError: If an argument is out of its range, or the variant has no such option.
        WeightsError: If the weights are damaged, contradict an argument, or are of another backbone.

    Reference:
        Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017; Du et al., "SpineNet: Learning Scale-Permuted
        Backbone for Recognition and Localization", CVPR 2020.
    """
    row = VARIANTS[variant]
    images = keras.Input((None, None, 3), name="images")
    pyramid = _backbone(variant, activation, blocks, out_width, drop_path_rate, drop_block)(images)
    if row.fpn:
        pyramid = _retina_pyramid(pyramid, row.width, activation)
    raw = dense_heads(
        pyramid,
        num_classes,
        PER_CELL,
        width=row.width,
        repeats=row.head_repeats,
        separable=row.separable,
        activation=activation,
        norm=NORM,
        initializer=keras.initializers.RandomNormal(stddev=0.03 if row.separable else 0.01),
    )
    network = keras.Model(images, raw, name="network")
    objective = AnchorObjective(PyramidAnchors.octaves(STRIDES, scale=anchor_scale, offset=0.5))
    return OneStageDetector(
        network, objective, class_names=class_names, input_size=input_shape[:2], select=select, name=name
    )
