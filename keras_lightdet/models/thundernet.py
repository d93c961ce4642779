"""ThunderNet: SNet, context enhancement, spatial attention and a light second stage (Qin et al. 2019)."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import keras
from keras import layers

from keras_lightdet.backbones import SNet
from keras_lightdet.backbones.snet import VARIANTS
from keras_lightdet.boxes import OhemSpec, ProposalSpec, PyramidAnchors, SampleSpec, SelectSpec
from keras_lightdet.detection import ProposalObjective, RegionObjective, TwoStageDetector
from keras_lightdet.layers import (
    BINS,
    CropToMatch,
    NearestUpsample2D,
    activate,
    batch_norm,
    conv_bn_act,
    depthwise_bn_act,
    light_head,
    predict_anchors,
)
from keras_lightdet.models.building import check_input_shape, check_variant, choose_arguments, load_backbone
from keras_lightdet.weights import load_weights

STRIDE = 16  # of the one map that proposals and regions are read from
CHANNELS_PER_BIN = 5  # alpha * p * p = 245 channels (section 3.2)
ANCHORS = PyramidAnchors(
    strides=(STRIDE,), sizes=((32, 64, 128, 256, 512),), aspect_ratios=(1 / 2, 3 / 4, 1.0, 4 / 3, 2.0)
)
TRAIN_PROPOSALS = ProposalSpec(2000, 1000)
TEST_PROPOSALS = ProposalSpec(1000, 200)
DEFAULTS = {
    "num_classes": 80,
    "input_shape": (320, 320, 3),
    "context": True,
    "attention": True,
    "rpn": "light",
    "head_width": 1024,
    "kernel_size": 5,
    "unit": "split",
}


def ThunderNet(  # noqa: N802 - builders are CapWords
    num_classes: int | None = None,
    input_shape: tuple[int, int, int] | None = None,
    *,
    variant: str | None = None,
    weights: str | Path | None = None,
    weights_backbone: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    context: bool | None = None,
    attention: bool | None = None,
    rpn: str | None = None,
    head_width: int | None = None,
    widths: Sequence[int] | None = None,
    kernel_size: int | None = None,
    unit: str | None = None,
    sample: SampleSpec | OhemSpec | None = None,
    select: SelectSpec | None = None,
    name: str | None = None,
) -> TwoStageDetector:
    """Builds ThunderNet, a two-stage detector on one map of stride 16.

    What is `None` comes from the record of `weights`, else from the paper.

    Args:
        num_classes: Classes to tell apart; 80.
        input_shape: `(height, width, 3)` in pixels, of any size; 320.
        variant: "snet49", "snet146" or "snet535"; "snet146".
        weights: A `.weights.h5` of ours with its record, or its `https` address with `#sha256=`; `None` starts from
            noise.
        weights_backbone: A `.weights.h5` of a classifier `SNet` of the same options with its record: the start of the
            paper's own training.
        class_names: Names in label order; "class 0", "class 1", .. where neither this nor `weights` tells.
        context: Whether the context enhancement module joins C4, C5 and the global average; else C4 alone is reduced
            (the paper's ablation).
        attention: Whether the spatial attention module weighs the map by what the proposal network saw.
        rpn: "light" is the paper's 5x5 depthwise and 1x1 convolution, "full" a 3x3 convolution, which costs eight
            times as much.
        head_width: Units of the second stage; 1024, where Light-Head R-CNN has 2048.
        widths, kernel_size, unit: See `SNet`.
        sample: Which regions the second stage is trained on: 512 at random, a quarter of them objects, as in the
            authors' own code; the paper takes the hardest (`OhemSpec`).
        select: How detections are chosen from the decoded boxes. The paper's soft suppression is
            `SelectSpec(0.05, 0.5, soft="gaussian")`.
        name: Name of the model.

    Returns:
        The detector; raw outputs `{"rois" [B, 200, 4], "valid" [B, 200], "class_logits" [B, 200, num_classes + 1],
        "box_deltas" [B, 200, 4]}`.

    Raises:
        ValueError: If an argument is out of its range.
        WeightsError: If the weights are damaged, contradict an argument, or are of another backbone.

    Reference:
        Qin et al., "ThunderNet: Towards Real-Time Generic Object Detection on Mobile Devices", ICCV 2019.
    """
    given = {
        "num_classes": num_classes,
        "input_shape": input_shape,
        "variant": variant,
        "context": context,
        "attention": attention,
        "rpn": rpn,
        "head_width": head_width,
        "widths": widths,
        "kernel_size": kernel_size,
        "unit": unit,
    }
    choice = choose_arguments(
        given,
        {"variant": "snet146", **DEFAULTS},
        builder="ThunderNet",
        weights=weights,
        class_names=class_names,
        weights_backbone=weights_backbone,
    )
    chosen = choice.arguments
    check_variant(chosen["variant"], VARIANTS)
    check_input_shape(chosen["input_shape"])
    if chosen["rpn"] not in _RPN_TRUNKS:
        raise ValueError(f"Expected rpn to be one of {sorted(_RPN_TRUNKS)}, got {chosen['rpn']!r}.")
    detector = TwoStageDetector(
        _rpn_network(chosen),
        light_head(chosen["num_classes"], width=chosen["head_width"], channels_per_bin=CHANNELS_PER_BIN, stride=STRIDE),
        ProposalObjective(ANCHORS, train=TRAIN_PROPOSALS, test=TEST_PROPOSALS),
        RegionObjective(sample=sample or SampleSpec(512, 0.25)),
        class_names=choice.class_names,
        input_size=chosen["input_shape"][:2],
        select=select or SelectSpec(iou_threshold=0.5),
        architecture=choice.architecture,
        name=name or "thundernet",
    )
    if choice.weights is not None:
        load_weights(detector, choice.weights)
    if weights_backbone is not None:
        build = partial(SNet, **_backbone_options(chosen))
        load_backbone(detector.rpn.get_layer("backbone"), build, weights_backbone)
    return detector


def _backbone_options(chosen: dict) -> dict:
    return {key: chosen[key] for key in ("variant", "widths", "kernel_size", "unit")}


def _rpn_network(chosen: dict) -> keras.Model:
    """Figure 2's upper half: backbone, context, proposals, attention."""
    images = keras.Input((None, None, 3), name="images")
    backbone = SNet(**_backbone_options(chosen), name="backbone")
    width = CHANNELS_PER_BIN * BINS**2
    if chosen["context"]:
        features = backbone(images)
        x = _cem(features["P4"], features["P5"], width, name="cem")
    else:  # nothing reads stage 4 then
        c4 = keras.Model(backbone.input, backbone.output["P4"], name="backbone")(images)
        x = layers.Conv2D(width, 1, name="cem_c4")(c4)
    trunk = _RPN_TRUNKS[chosen["rpn"]](x, name="rpn")
    raw = predict_anchors(trunk, ANCHORS.per_cell, name="rpn")
    if chosen["attention"]:
        x = _sam(x, trunk, name="sam")
    return keras.Model(images, {"features": x, **raw}, name="rpn")


def _cem(c4: keras.KerasTensor, c5: keras.KerasTensor, width: int, *, name: str) -> keras.KerasTensor:
    """Context enhancement module (fig. 4): C4, C5 enlarged and the average of C5 everywhere, each by a 1x1, summed."""
    fine = layers.Conv2D(width, 1, name=f"{name}_c4")(c4)
    coarse = NearestUpsample2D(2, name=f"{name}_enlarge")(layers.Conv2D(width, 1, name=f"{name}_c5")(c5))
    coarse = CropToMatch(name=f"{name}_crop")(coarse, fine)
    whole = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(c5)
    whole = layers.Conv2D(width, 1, name=f"{name}_global")(whole)
    return layers.Add(name=f"{name}_add_global")([layers.Add(name=f"{name}_add")([fine, coarse]), whole])


def _light_trunk(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    x = depthwise_bn_act(x, 5, activation="relu", name=f"{name}_depthwise")
    return conv_bn_act(x, 256, activation="relu", name=f"{name}_pointwise")


def _full_trunk(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    return conv_bn_act(x, 256, 3, activation="relu", name=f"{name}_trunk")


_RPN_TRUNKS = {"light": _light_trunk, "full": _full_trunk}


def _sam(x: keras.KerasTensor, trunk: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    """Spatial attention module (fig. 5, eq. 1): the proposal network's map decides where the features count."""
    weight = layers.Conv2D(x.shape[-1], 1, use_bias=False, name=f"{name}_conv")(trunk)
    weight = activate(batch_norm(weight, name=f"{name}_bn"), "sigmoid", name=f"{name}_sigmoid")
    return layers.Multiply(name=f"{name}_weigh")([x, weight])
