"""RSANet: LCNet, the residual semantic-guided attention pyramid, and a grid prediction (Zhou et al. 2021)."""

import math
from collections.abc import Sequence
from pathlib import Path

import keras
from keras import layers

from keras_lightdet.backbones import LCNet
from keras_lightdet.backbones.lcnet import REPEATS, STRIDE, WIDTHS
from keras_lightdet.boxes import GridAnchors, SelectSpec
from keras_lightdet.detection import GridObjective, OneStageDetector
from keras_lightdet.layers import NearestUpsample2D, conv_bn_act, depthwise_bn_act
from keras_lightdet.models.building import check_input_shape, check_variant, choose_arguments
from keras_lightdet.weights import load_weights

STRIDES = (8, 16, 32)
OBJECT_PRIOR = 0.01  # share of anchors with an object, which the objectness starts at (Lin et al. 2017, section 4.1)
VARIANTS = {
    "voc": {"num_classes": 20, "input_shape": (416, 416, 3)},
    "coco": {"num_classes": 80, "input_shape": (320, 320, 3)},
}
ANCHOR_SIDE = 416
# YOLOv3's clusters on COCO at 416 pixels (Redmon and Farhadi 2018, section 2.3).
ANCHOR_SIZES = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)


def RSANet(  # noqa: N802 - builders are CapWords
    num_classes: int | None = None,
    input_shape: tuple[int, int, int] | None = None,
    *,
    variant: str = "voc",
    weights: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    anchors: Sequence | None = None,
    widths: Sequence[int] | None = None,
    repeats: Sequence[int] | None = None,
    dsm: str | None = None,
    rsam: bool | None = None,
    activation: str | None = None,
    select: SelectSpec | None = None,
    name: str | None = None,
) -> OneStageDetector:
    """Builds RSANet, a one-stage detector on strides 8, 16 and 32.

    The paper names the modules and the cost; widths, the sum in the DSM and the 1x1 predictions are the reading that
    meets its VOC figures (3.24 M parameters, 3.54 B FLOPs at 416). What is `None` comes from the record of
    `weights`, else from the variant.

    Args:
        num_classes: Classes to tell apart (20 and 80 in the variants).
        input_shape: `(height, width, 3)` in pixels, multiples of 32.
        variant: "voc" (416, 20 classes) or "coco" (320, 80 classes). The paper's COCO model has 4.35 M parameters,
            which no change of the classes alone explains: `widths=(32, 64, 128, 256, 640)` gives 4.39 M.
        weights: A `.weights.h5` of ours with its record, or its `https` address with `#sha256=`; `None` starts from
            noise.
        class_names: Names in label order; "class 0", "class 1", .. where neither this nor `weights` tells.
        anchors: `(width, height)` in pixels of the input, `[3 levels][anchors a cell][2]`; else YOLOv3's nine,
            scaled to the input.
        widths, repeats, dsm, activation: See `LCNet`.
        rsam: `False` replaces the attention modules by the sums of a plain pyramid (the paper's ablation).
        select: How detections are chosen from the decoded boxes.
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
    check_variant(variant, VARIANTS)
    given = {
        "num_classes": num_classes,
        "input_shape": input_shape,
        "anchors": anchors,
        "widths": widths,
        "repeats": repeats,
        "dsm": dsm,
        "rsam": rsam,
        "activation": activation,
    }
    defaults = {
        **VARIANTS[variant],
        "widths": WIDTHS,
        "repeats": REPEATS,
        "dsm": "add",
        "rsam": True,
        "activation": "leaky_relu",
    }
    choice = choose_arguments(given, defaults, builder="RSANet", weights=weights, class_names=class_names)
    chosen = choice.arguments
    check_input_shape(chosen["input_shape"], STRIDE)
    height, width, _ = chosen["input_shape"]
    saved_shape = choice.saved.get("input_shape", chosen["input_shape"])
    grid = _anchors(chosen["anchors"], (height, width), saved_shape if anchors is None else chosen["input_shape"])
    network = _network(chosen, grid.per_cell)
    chosen["anchors"] = grid.sizes
    detector = OneStageDetector(
        network,
        GridObjective(grid),
        class_names=choice.class_names,
        input_size=(height, width),
        select=select or SelectSpec(),
        architecture=choice.architecture,
        name=name or "rsanet",
    )
    if choice.weights is not None:
        load_weights(detector, choice.weights)
    return detector


def _network(chosen: dict, anchors_per_cell: int) -> keras.Model:
    images = keras.Input((None, None, 3), name="images")
    backbone = LCNet(
        widths=chosen["widths"],
        repeats=chosen["repeats"],
        dsm=chosen["dsm"],
        activation=chosen["activation"],
        name="backbone",
    )
    pyramid = _rsafpn(backbone(images), rsam=chosen["rsam"], activation=chosen["activation"])
    return keras.Model(images, _predict(pyramid, chosen["num_classes"], anchors_per_cell), name="network")


def _rsafpn(features: dict, *, rsam: bool, activation: str) -> dict:
    """Refines the levels from coarse to fine (fig. 4): P5 as it is, P4 by P5, P3 by P4."""
    fuse = _rsam if rsam else _plain_sum
    pyramid = {"P5": features["P5"]}
    for level, coarser in (("P4", "P5"), ("P3", "P4")):
        pyramid[level] = fuse(pyramid[coarser], features[level], activation=activation, name=f"rsam_{level.lower()}")
    return {level: pyramid[level] for level in ("P3", "P4", "P5")}


def _rsam(high: keras.KerasTensor, low: keras.KerasTensor, *, activation: str, name: str) -> keras.KerasTensor:
    """Residual semantic-guided attention module (fig. 5): the coarse map is added in, and weighs the channels."""
    width = low.shape[-1]
    reduced = conv_bn_act(high, width, activation=activation, name=f"{name}_reduce")
    enlarged = NearestUpsample2D(2, name=f"{name}_enlarge")(reduced)
    joined = layers.Concatenate(name=f"{name}_concat")([enlarged, low])
    fused = _lccu(joined, width, activation=activation, name=f"{name}_lccu")
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
    """The pyramid without attention: reduce, enlarge, add (Lin et al. 2017, fig. 3)."""
    reduced = conv_bn_act(high, low.shape[-1], activation=activation, name=f"{name}_reduce")
    return layers.Add(name=f"{name}_add")([NearestUpsample2D(2, name=f"{name}_enlarge")(reduced), low])


def _predict(pyramid: dict, num_classes: int, anchors_per_cell: int) -> dict:
    """Predicts by 1x1s; boxes, objectness and classes apart, so that each keeps its own scale in an int8 file."""
    prior = keras.initializers.Constant(-math.log((1 - OBJECT_PRIOR) / OBJECT_PRIOR))
    parts = {
        "box_deltas": ("box", 4, "zeros"),
        "objectness": ("objectness", 1, prior),
        "class_logits": ("class", num_classes, "zeros"),
    }
    raw = {}
    for key, (part, depth, bias) in parts.items():
        rows = []
        for level, x in pyramid.items():
            name = f"{level.lower()}_{part}"
            small = keras.initializers.RandomNormal(stddev=0.01)  # all anchors start alike, at the bias
            x = layers.Conv2D(anchors_per_cell * depth, 1, kernel_initializer=small, bias_initializer=bias, name=name)(
                x
            )
            rows.append(layers.Reshape((-1, depth) if depth > 1 or part == "class" else (-1,), name=f"{name}_rows")(x))
        raw[key] = layers.Concatenate(axis=1, dtype="float32", name=key)(rows)
    return raw


def _anchors(sizes: Sequence | None, input_size: tuple[int, int], made_for: Sequence[int]) -> GridAnchors:
    """Returns the anchors in pixels of this input, where the sizes given are in pixels of `made_for`."""
    if sizes is None:
        return GridAnchors(STRIDES, ANCHOR_SIZES).scaled(math.sqrt(input_size[0] * input_size[1]) / ANCHOR_SIDE)
    factor = math.sqrt(input_size[0] * input_size[1] / (made_for[0] * made_for[1]))
    return GridAnchors(STRIDES, tuple(tuple(tuple(size) for size in level) for level in sizes)).scaled(factor)
