"""RetinaNet (Lin et al. 2017): dense prediction on SpineNet's pyramid, or on a ResNet's or MobileNetV2's with FPN."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import keras
from keras import layers

from keras_lightdet.backbones import MobileNetV2, MobileSpineNet, ResNet, SpineNet
from keras_lightdet.boxes import PyramidAnchors, SelectSpec
from keras_lightdet.detection import AnchorObjective, OneStageDetector
from keras_lightdet.layers import NORM, activate, batch_norm, dense_heads, fpn
from keras_lightdet.models.building import check_input_shape, check_variant, choose_arguments, load_backbone
from keras_lightdet.weights import load_weights

STRIDES = (8, 16, 32, 64, 128)
NUM_CLASSES = 91  # the released models predict COCO's ids, 0 to 90
PER_CELL = 9  # three sizes at three aspect ratios


class Variant(NamedTuple):
    """A published RetinaNet.

    Attributes:
        backbone: Builds the features.
        options: The backbone's arguments that the caller may set.
        side: Of the input, pixels.
        width: Channels of the heads.
        repeats: Convolutions of a head before its prediction.
        anchor_scale: Smallest anchor of a level over its stride.
        fpn_width: Channels of the pyramid that is built on the features; `None` for a backbone that is one.
        separable: Whether the heads' convolutions are depthwise and then 1x1.
        activation: Keras name.
    """

    backbone: Callable[..., keras.Model]
    options: tuple[str, ...]
    side: int
    width: int
    repeats: int = 4
    anchor_scale: float = 3.0
    fpn_width: int | None = None
    separable: bool = False
    activation: str = "relu"


_SPINENET_OPTIONS = ("activation", "blocks", "out_width", "drop_path_rate", "drop_block")
_MOBILE_OPTIONS = ("activation", "blocks", "drop_path_rate")


def _spinenet(size: str, *numbers, **options) -> Variant:
    return Variant(partial(SpineNet, variant=size), _SPINENET_OPTIONS, *numbers, **options)


def _mobile_spinenet(size: str, side: int, width: int) -> Variant:
    backbone = partial(MobileSpineNet, variant=size)
    return Variant(backbone, _MOBILE_OPTIONS, side, width, separable=True, activation="swish")


VARIANTS = {
    "spinenet49s": _spinenet("49s", 640, 128),
    "spinenet49": _spinenet("49", 640, 256),
    "spinenet96": _spinenet("96", 1024, 256),
    "spinenet143": _spinenet("143", 1280, 256, anchor_scale=4.0),
    "spinenet190": _spinenet("190", 1280, 512, 7, anchor_scale=4.0),
    "mobile_spinenet49xs": _mobile_spinenet("49xs", 256, 24),
    "mobile_spinenet49s": _mobile_spinenet("49s", 384, 40),
    "mobile_spinenet49": _mobile_spinenet("49", 384, 48),
    "resnet50_fpn": Variant(partial(ResNet, depth=50), (), 640, 256, fpn_width=256),
    "resnet101_fpn": Variant(partial(ResNet, depth=101), (), 1024, 256, fpn_width=256),
    # Ours: no paper gives these widths.
    "mobilenetv2_fpn": Variant(MobileNetV2, (), 384, 96, fpn_width=96, separable=True),
}


def RetinaNet(  # noqa: N802 - builders are CapWords
    num_classes: int | None = None,
    input_shape: tuple[int, int, int] | None = None,
    *,
    variant: str | None = None,
    weights: str | Path | None = None,
    weights_backbone: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    activation: str | None = None,
    blocks: Sequence | None = None,
    out_width: int | None = None,
    anchor_scale: float | None = None,
    drop_path_rate: float | None = None,
    drop_block: float | None = None,
    select: SelectSpec | None = None,
    name: str | None = None,
) -> OneStageDetector:
    """Builds RetinaNet, a one-stage detector on strides 8 to 128.

    The heads are those of SpineNet's authors: a batch norm for each level behind convolutions that all levels share.
    What is `None` comes from the record of `weights`, else from the paper.

    Args:
        num_classes: Classes to tell apart; 91, with which the published cost is met.
        input_shape: `(height, width, 3)` in pixels, of any size; 640, 1024 or 1280, of the mobile ones 256 or 384.
        variant: "spinenet49s", "spinenet49", "spinenet96", "spinenet143" or "spinenet190"; "mobile_spinenet49xs",
            "mobile_spinenet49s" or "mobile_spinenet49"; "resnet50_fpn", "resnet101_fpn" or "mobilenetv2_fpn".
            "mobile_spinenet49".
        weights: A `.weights.h5` of ours with its record, or its `https` address with `#sha256=`; `None` starts from
            noise.
        weights_backbone: A `.weights.h5` of a classifier of the variant's backbone with its record.
        class_names: Names in label order; "class 0", "class 1", .. where neither this nor `weights` tells.
        activation: Of the heads, and of a SpineNet: "relu", or "swish" in protocol C and in the mobile ones.
        blocks: The permuted part of a SpineNet, such as the command that searches for one finds; the paper's.
        out_width: Channels of a SpineNet's pyramid. The published 11.9 M parameters of "spinenet49s" are met with 256.
        anchor_scale: Smallest anchor of a level over its stride; smaller for smaller objects.
        drop_path_rate: See `SpineNet` and `MobileSpineNet`; 0.
        drop_block: See `SpineNet`; 0.
        select: How detections are chosen from the decoded boxes.
        name: Name of the model.

    Returns:
        The detector; raw outputs `{"box_deltas" [B, N, 4], "class_logits" [B, N, num_classes]}`.

    Raises:
        ValueError: If an argument is out of its range, or is none of the variant's.
        WeightsError: If the weights are damaged, contradict an argument, or are of another backbone.

    Reference:
        Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017; Du et al., "SpineNet: Learning Scale-Permuted
        Backbone for Recognition and Localization", CVPR 2020.
    """
    given = {
        "num_classes": num_classes,
        "input_shape": input_shape,
        "variant": variant,
        "activation": activation,
        "blocks": blocks,
        "out_width": out_width,
        "anchor_scale": anchor_scale,
        "drop_path_rate": drop_path_rate,
        "drop_block": drop_block,
    }
    defaults = {"num_classes": NUM_CLASSES, "variant": "mobile_spinenet49"}
    choice = choose_arguments(
        given,
        defaults,
        builder="RetinaNet",
        weights=weights,
        class_names=class_names,
        weights_backbone=weights_backbone,
    )
    chosen = choice.arguments
    check_variant(chosen["variant"], VARIANTS)
    form = VARIANTS[chosen["variant"]]
    chosen["input_shape"] = chosen["input_shape"] or (form.side, form.side, 3)
    chosen["activation"] = chosen["activation"] or form.activation
    chosen["anchor_scale"] = chosen["anchor_scale"] or form.anchor_scale
    check_input_shape(chosen["input_shape"])
    detector = OneStageDetector(
        _network(chosen, form),
        AnchorObjective(PyramidAnchors.octaves(STRIDES, scale=chosen["anchor_scale"], offset=0.5)),
        class_names=choice.class_names,
        input_size=chosen["input_shape"][:2],
        select=select or SelectSpec(iou_threshold=0.5),
        architecture=choice.architecture,
        name=name or "retinanet",
    )
    if choice.weights is not None:
        load_weights(detector, choice.weights)
    if weights_backbone is not None:
        build = partial(form.backbone, **_backbone_options(chosen, form))
        load_backbone(detector.network.get_layer("backbone"), build, weights_backbone)
    return detector


def _backbone_options(chosen: dict, form: Variant) -> dict:
    """The backbone's arguments that are set."""
    options = {key: chosen[key] for key in _SPINENET_OPTIONS if chosen[key] is not None}
    foreign = [key for key in options if key not in (*form.options, "activation")]
    if foreign:
        raise ValueError(
            f"Expected {foreign[0]} to be None, got {options[foreign[0]]!r}: {chosen['variant']} has none."
        )
    return {key: value for key, value in options.items() if key in form.options}


def _network(chosen: dict, form: Variant) -> keras.Model:
    images = keras.Input((None, None, 3), name="images")
    pyramid = form.backbone(**_backbone_options(chosen, form), name="backbone")(images)
    if form.fpn_width:
        pyramid = _retina_pyramid(pyramid, form.fpn_width, chosen["activation"])
    raw = dense_heads(
        pyramid,
        chosen["num_classes"],
        PER_CELL,
        width=form.width,
        repeats=form.repeats,
        separable=form.separable,
        activation=chosen["activation"],
        norm=NORM,
        initializer=keras.initializers.RandomNormal(stddev=0.03 if form.separable else 0.01),
    )
    return keras.Model(images, raw, name="network")


def _retina_pyramid(features: dict, width: int, activation: str) -> dict:
    """FPN on P3 to P5, two convolutions of stride 2 for P6 and P7, a batch norm on each level."""
    pyramid = fpn({level: features[level] for level in ("P3", "P4", "P5")}, width)
    for level, finer in (("P6", "P5"), ("P7", "P6")):
        x = pyramid[finer]
        name = f"fpn_{level.lower()}_out"
        if level == "P7":
            x = activate(x, activation, name="fpn_p7_act")
        pyramid[level] = layers.Conv2D(width, 3, 2, padding="same", name=name)(x)
    return {level: batch_norm(x, name=f"fpn_{level.lower()}_bn") for level, x in pyramid.items()}
