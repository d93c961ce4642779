"""RSANet: LCNet, the residual semantic-guided attention pyramid, and a grid prediction (Zhou et al. 2021)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from keras import layers

from keras_lightdet.backbones import LCNet
from keras_lightdet.backbones.lcnet import REPEATS, STRIDE, WIDTHS
from keras_lightdet.boxes import GridAnchors, SelectSpec
from keras_lightdet.builder import BACKBONE, DERIVED, builder
from keras_lightdet.detection import GridObjective, OneStageDetector
from keras_lightdet.layers import NearestUpsample2D, conv_bn_act, depthwise_bn_act
from keras_lightdet.types import InputShape, Tensors

STRIDES = (8, 16, 32)
OBJECT_PRIOR = 0.01  # initial objectness: the share of anchors with an object (Lin et al. 2017, section 4.1)
ANCHOR_SIDE = 416
# YOLOv3's clusters on COCO at 416 pixels (Redmon and Farhadi 2018, section 2.3).
ANCHOR_SIZES = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)
SELECT = SelectSpec()

AnchorSizes = tuple[tuple[tuple[float, float], ...], ...]


@dataclass(frozen=True)
class Variant:
    """The classes and the input of one of the paper's data sets."""

    num_classes: int
    input_shape: InputShape


VARIANTS = {"voc": Variant(20, (416, 416, 3)), "coco": Variant(80, (320, 320, 3))}

# Neck


def _rsafpn(features: Tensors, *, rsam: bool, activation: str) -> Tensors:
    """RSAFPN, from coarse to fine (fig. 4): P5 is passed through, P4 refined by P5, P3 by P4."""
    fuse = _rsam if rsam else _plain_sum
    pyramid = {"P5": features["P5"]}
    for level, coarser in (("P4", "P5"), ("P3", "P4")):
        pyramid[level] = fuse(pyramid[coarser], features[level], activation=activation, name=f"rsam_{level.lower()}")
    return {level: pyramid[level] for level in ("P3", "P4", "P5")}


def _rsam(high: keras.KerasTensor, low: keras.KerasTensor, *, activation: str, name: str) -> keras.KerasTensor:
    """Residual semantic-guided attention module (fig. 5): fuses the coarse map, which also weighs the channels."""
    width = low.shape[-1]
    reduced = conv_bn_act(high, width, activation=activation, name=f"{name}_reduce")
    upsampled = NearestUpsample2D(2, name=f"{name}_upsample")(reduced)
    concatenated = layers.Concatenate(name=f"{name}_concat")([upsampled, low])
    fused = _lccu(concatenated, width, activation=activation, name=f"{name}_lccu")
    attention = _cam(reduced, width, name=f"{name}_cam")
    weighted = layers.Multiply(name=f"{name}_weigh")([fused, attention])
    return layers.Add(name=f"{name}_add")([fused, weighted])


def _lccu(x: keras.KerasTensor, width: int, *, activation: str, name: str) -> keras.KerasTensor:
    """Light-weight context unit: 1x1 to reduce, two 3x3 depthwise, 1x1 to mix."""
    x = conv_bn_act(x, width, activation=activation, name=f"{name}_reduce")
    for step in (1, 2):
        x = depthwise_bn_act(x, activation=activation, name=f"{name}_depthwise{step}")
    return conv_bn_act(x, width, activation=activation, name=f"{name}_mix")


def _cam(x: keras.KerasTensor, width: int, *, name: str) -> keras.KerasTensor:
    """Channel attention module: global average, 1x1, sigmoid -> `[B, 1, 1, width]`."""
    x = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(x)
    return conv_bn_act(x, width, activation="sigmoid", name=name)


def _plain_sum(high: keras.KerasTensor, low: keras.KerasTensor, *, activation: str, name: str) -> keras.KerasTensor:
    """The pyramid without attention: reduce, upsample, add (Lin et al. 2017, fig. 3)."""
    reduced = conv_bn_act(high, low.shape[-1], activation=activation, name=f"{name}_reduce")
    return layers.Add(name=f"{name}_add")([NearestUpsample2D(2, name=f"{name}_upsample")(reduced), low])


# Heads


def _predict(pyramid: Tensors, num_classes: int, anchors_per_cell: int) -> Tensors:
    """Predicts by separate 1x1 convolutions for boxes, objectness and classes: each has its own scale in int8."""
    prior = keras.initializers.Constant(-math.log((1 - OBJECT_PRIOR) / OBJECT_PRIOR))
    outputs = {
        "box_deltas": ("box", (4,), "zeros"),
        "objectness": ("objectness", (), prior),
        "class_logits": ("class", (num_classes,), "zeros"),
    }
    raw = {}
    for output, (suffix, shape, bias) in outputs.items():
        rows = []
        for level, x in pyramid.items():
            name = f"{level.lower()}_{suffix}"
            small = keras.initializers.RandomNormal(stddev=0.01)  # so that all anchors start near the bias
            filters = anchors_per_cell * math.prod(shape)
            x = layers.Conv2D(filters, 1, kernel_initializer=small, bias_initializer=bias, name=name)(x)
            rows.append(layers.Reshape((-1, *shape), name=f"{name}_rows")(x))
        raw[output] = layers.Concatenate(axis=1, dtype="float32", name=output)(rows)
    return raw


def _anchors(sizes: AnchorSizes | None, input_shape: InputShape) -> GridAnchors:
    """Returns the anchors of `sizes`, in pixels of the input, else YOLOv3's scaled to the input."""
    if sizes is not None:
        return GridAnchors(STRIDES, sizes)
    return GridAnchors(STRIDES, ANCHOR_SIZES).scaled(math.sqrt(math.prod(input_shape[:2])) / ANCHOR_SIDE)


def _scale_recorded_anchors(recorded: dict[str, Any], explicit: Mapping[str, Any]) -> dict[str, Any]:
    """Scales the anchors of a record, in pixels of its own input, to the input that the caller passes."""
    if "anchors" not in recorded or "anchors" in explicit or "input_shape" not in explicit:
        return recorded
    old, new = (math.prod(arguments["input_shape"][:2]) for arguments in (recorded, explicit))
    return {**recorded, "anchors": GridAnchors(STRIDES, recorded["anchors"]).scaled(math.sqrt(new / old)).sizes}


# Model


@builder(VARIANTS, overridable=("input_shape", "variant"), input_multiple=STRIDE, adapt_record=_scale_recorded_anchors)
def RSANet(  # noqa: N802 - builders are CapWords
    num_classes: int = DERIVED,
    input_shape: InputShape = DERIVED,
    *,
    variant: str = "voc",
    weights: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    anchors: AnchorSizes | None = None,
    widths: Sequence[int] = WIDTHS,
    repeats: Sequence[int] = REPEATS,
    dsm: str = "add",
    rsam: bool = True,
    activation: str = "leaky_relu",
    select: SelectSpec = SELECT,
    name: str = "rsanet",
) -> OneStageDetector:
    """Builds RSANet, a one-stage detector on strides 8, 16 and 32.

    The paper states the modules and the cost; widths, the sum in the DSM and the 1x1 predictions are the reading that
    meets its VOC figures (3.24 M parameters, 3.54 B FLOPs at 416). Arguments that are left out come from the record of
    `weights`, else from the variant.

    Args:
        num_classes: Number of classes; the variant's.
        input_shape: `(height, width, 3)` in pixels, multiples of 32; the variant's.
        variant: "voc" (416, 20 classes) or "coco" (320, 80 classes). The paper's COCO model has 4.35 M parameters,
            which no change of the classes alone explains: `widths=(32, 64, 128, 256, 640)` gives 4.39 M.
        weights: A `.weights.h5` with its record, or its address, see `weights.resolve_weights`; random if left out.
        class_names: Names in label order; those of `weights`, else "class 0", "class 1", ..
        anchors: `(width, height)` in pixels of the input, `[3 levels][anchors per cell][2]`; YOLOv3's nine, scaled to
            the input. Those of `weights` are scaled to the input, too.
        widths, repeats, dsm, activation: See `LCNet`.
        rsam: Whether attention modules (RSAM) join the levels, or the sums of a plain pyramid (the paper's ablation).
        select: How detections are selected from the decoded boxes.
        name: Name of the model.

    Returns:
        The detector; raw outputs `{"box_deltas" [B, N, 4], "objectness" [B, N], "class_logits" [B, N, num_classes]}`.

    Raises:
        ValueError: If an argument is out of its range.
        WeightsError: If the weights are damaged or contradict an argument.

    Reference:
        Zhou et al., "RSANet: Towards Real-Time Object Detection with Residual Semantic-Guided Attention Feature Pyramid
        Network", Mobile Networks and Applications, 2021.
    """
    grid = _anchors(anchors, input_shape)
    images = keras.Input((None, None, 3), name="images")
    backbone = LCNet(widths=widths, repeats=repeats, dsm=dsm, activation=activation, name=BACKBONE)
    pyramid = _rsafpn(backbone(images), rsam=rsam, activation=activation)
    raw = _predict(pyramid, num_classes, grid.per_cell)
    return OneStageDetector(
        keras.Model(images, raw, name="network"),
        GridObjective(grid),
        class_names=class_names,
        input_size=input_shape[:2],
        select=select,
        architecture={"anchors": grid.sizes},
        name=name,
    )
