"""ThunderNet: SNet, context enhancement, spatial attention and a light second stage (Qin et al. 2019)."""

from collections.abc import Sequence
from pathlib import Path

import keras
from keras import layers

from keras_lightdet.backbones import SNet
from keras_lightdet.backbones.snet import VARIANTS
from keras_lightdet.boxes import OhemSpec, ProposalSpec, PyramidAnchors, SampleSpec, SelectSpec
from keras_lightdet.builder import BACKBONE, DERIVED, builder, check_choice
from keras_lightdet.detection import ProposalObjective, RegionObjective, TwoStageDetector
from keras_lightdet.layers import (
    BINS,
    activate,
    batch_norm,
    conv_bn_act,
    depthwise_bn_act,
    light_head,
    predict_anchors,
    upsample_to_match,
)
from keras_lightdet.types import InputShape

STRIDE = 16  # of the one feature map that proposals and regions are read from
CHANNELS_PER_BIN = 5  # alpha * p * p = 245 channels (section 3.2)
ANCHORS = PyramidAnchors(
    strides=(STRIDE,), sizes=((32, 64, 128, 256, 512),), aspect_ratios=(1 / 2, 3 / 4, 1.0, 4 / 3, 2.0)
)
TRAIN_PROPOSALS = ProposalSpec(2000, 1000)
TEST_PROPOSALS = ProposalSpec(1000, 200)
SAMPLE = SampleSpec(512, 0.25)
SELECT = SelectSpec(iou_threshold=0.5)

# Backbone


def _backbone(
    variant: str, widths: Sequence[int], kernel_size: int, unit: str, num_classes: int | None = None
) -> keras.Model:
    return SNet(
        variant=variant, widths=widths, kernel_size=kernel_size, unit=unit, num_classes=num_classes, name=BACKBONE
    )


# Neck


def _cem(c4: keras.KerasTensor, c5: keras.KerasTensor, width: int, *, name: str) -> keras.KerasTensor:
    """Context enhancement module (fig. 4): 1x1 convolutions of C4, upsampled C5 and the average of C5, summed."""
    fine = layers.Conv2D(width, 1, name=f"{name}_c4")(c4)
    coarse = upsample_to_match(layers.Conv2D(width, 1, name=f"{name}_c5")(c5), fine, name=name)
    context = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(c5)
    context = layers.Conv2D(width, 1, name=f"{name}_global")(context)
    return layers.Add(name=f"{name}_add_global")([layers.Add(name=f"{name}_add")([fine, coarse]), context])


def _sam(x: keras.KerasTensor, rpn: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    """Spatial attention module (fig. 5, eq. 1): weights computed from the RPN's features scale the map."""
    weight = layers.Conv2D(x.shape[-1], 1, use_bias=False, name=f"{name}_conv")(rpn)
    weight = activate(batch_norm(weight, name=f"{name}_bn"), "sigmoid", name=f"{name}_sigmoid")
    return layers.Multiply(name=f"{name}_weigh")([x, weight])


# Heads: the region proposal network's features; its predictions and the R-CNN subnet are `layers.light_head`'s.


def _light_rpn(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    x = depthwise_bn_act(x, 5, activation="relu", name=f"{name}_depthwise")
    return conv_bn_act(x, 256, activation="relu", name=f"{name}_pointwise")


def _full_rpn(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    return conv_bn_act(x, 256, 3, activation="relu", name=f"{name}_trunk")


RPNS = {"light": _light_rpn, "full": _full_rpn}

# Model


@builder(VARIANTS, backbone=_backbone)
def ThunderNet(  # noqa: N802 - builders are CapWords
    num_classes: int = 80,
    input_shape: InputShape = (320, 320, 3),
    *,
    variant: str = "snet146",
    weights: str | Path | None = None,
    weights_backbone: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    context: bool = True,
    attention: bool = True,
    rpn: str = "light",
    head_width: int = 1024,
    widths: Sequence[int] = DERIVED,
    kernel_size: int = 5,
    unit: str = "split",
    sample: SampleSpec | OhemSpec = SAMPLE,
    select: SelectSpec = SELECT,
    name: str = "thundernet",
) -> TwoStageDetector:
    """Builds ThunderNet, a two-stage detector on one map of stride 16.

    Arguments that are left out come from the record of `weights`, else from the paper.

    Args:
        num_classes: Number of classes.
        input_shape: `(height, width, 3)` in pixels, of any size.
        variant: "snet49", "snet146" or "snet535".
        weights: A `.weights.h5` with its record, or its address, see `weights.resolve_weights`; random if left out.
        weights_backbone: A `.weights.h5` of a classifier `SNet` of the same options with its record, from which the
            paper's training starts.
        class_names: Names in label order; those of `weights`, else "class 0", "class 1", ..
        context: Whether the context enhancement module joins C4, C5 and the global average; without it C4 alone is
            reduced (the paper's ablation).
        attention: Whether the spatial attention module is applied to the map.
        rpn: "light" is the paper's 5x5 depthwise and 1x1 convolution, "full" a 3x3 convolution, which costs eight
            times as much.
        head_width: Units of the second stage, of which Light-Head R-CNN has 2048.
        widths, kernel_size, unit: See `SNet`.
        sample: Which regions the second stage is trained on: 512 at random, a quarter of them foreground, as in the
            authors' code; the paper uses online hard example mining (`OhemSpec`).
        select: How detections are selected from the decoded boxes. The paper's Soft-NMS is
            `SelectSpec(0.05, 0.5, soft_nms="gaussian")`.
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
    check_choice("rpn", rpn, RPNS)
    backbone = _backbone(variant, widths, kernel_size, unit)
    network = _rpn_network(backbone, context=context, attention=attention, rpn=rpn)
    head = light_head(num_classes, width=head_width, channels_per_bin=CHANNELS_PER_BIN, stride=STRIDE)
    proposals = ProposalObjective(ANCHORS, train=TRAIN_PROPOSALS, test=TEST_PROPOSALS)
    regions = RegionObjective(sample=sample)
    return TwoStageDetector(
        network, head, proposals, regions, class_names=class_names, input_size=input_shape[:2], select=select, name=name
    )


def _rpn_network(backbone: keras.Model, *, context: bool, attention: bool, rpn: str) -> keras.Model:
    """Figure 2, upper half: backbone, CEM, RPN, SAM."""
    images = keras.Input((None, None, 3), name="images")
    width = CHANNELS_PER_BIN * BINS**2
    if context:
        features = backbone(images)
        x = _cem(features["P4"], features["P5"], width, name="cem")
    else:  # stage 4 is left out, since nothing reads it
        c4 = keras.Model(backbone.input, backbone.output["P4"], name=BACKBONE)(images)
        x = layers.Conv2D(width, 1, name="cem_c4")(c4)
    rpn_features = RPNS[rpn](x, name="rpn")
    raw = predict_anchors(rpn_features, ANCHORS.per_cell, name="rpn")
    if attention:
        x = _sam(x, rpn_features, name="sam")
    return keras.Model(images, {"features": x, **raw}, name="rpn")
