"""timm's EfficientNets and effdet's EfficientDets in ours: those ported from TensorFlow, "tf_..", and PyTorch's own."""

import re
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from keras_lightdet.detection import OneStageDetector
from keras_lightdet.errors import WeightsError
from keras_lightdet.foreign_weights.assign import assign_tensors
from keras_lightdet.foreign_weights.torch_file import Tensors, read_tensors

_BACKBONE = "backbone"
_ENDS = {
    "stem_conv": "conv_stem",
    "stem_bn": "bn1",
    "head_conv": "conv_head",
    "head_bn": "bn2",
    "classifier": "classifier",
}
_HEAD = ("conv_head.", "bn2.", "classifier.")
# timm's modules in a block by our names; those of stage 1, which does not expand, are counted from the depthwise one.
_BLOCK_PARTS = {
    "expand_conv": "conv_pw",
    "expand_bn": "bn1",
    "depthwise_conv": "conv_dw",
    "depthwise_bn": "bn2",
    "squeeze_reduce": "se.conv_reduce",
    "squeeze_expand": "se.conv_expand",
    "project_conv": "conv_pwl",
    "project_bn": "bn3",
}
_FIRST_STAGE_PARTS = {**_BLOCK_PARTS, "depthwise_bn": "bn1", "project_conv": "conv_pw", "project_bn": "bn2"}
_FINEST = 3  # level of the first map
# Anchors of a cell: effdet runs through three octaves of three shapes, we through three shapes of three octaves. Our
# shapes by theirs, and theirs as (width, height) in sides of the square.
_SHAPES_OF_THEIRS = (1, 0, 2)
_THEIR_SHAPES = ((1.4, 0.7), (1.0, 1.0), (0.7, 1.4))  # in our order
_OUR_SHAPES = ((2**0.5, 0.5**0.5), (1.0, 1.0), (0.5**0.5, 2**0.5))
_OCTAVES = 3


def load_efficientnet(model: keras.Model, source: str | Path | Mapping) -> None:
    """Fills an `EfficientNet` with the weights of timm's `tf_efficientnet_b0` .. `b7` or `lite0` .. `lite4`.

    Those of `efficientnet_b0` .. go into one built with `convention="torch"`: the tensors of both fit either, and mean
    something in one.

    Args:
        model: The classifier or the features, of the same variant and convention.
        source: The `.pth` file of a state dict, or the state dict.

    Raises:
        WeightsError: If PyTorch is missing, or the weights are damaged or do not fit. The model stays as it was.
    """
    name, tensors = read_tensors(source)
    modules = {efficientnet_module(layer.name): layer for layer in model.layers if layer.weights}
    assign_tensors(modules, tensors, source=name, spare=() if "classifier" in modules else _HEAD)


def load_efficientdet(model: OneStageDetector, source: str | Path | Mapping) -> None:
    """Fills an `EfficientDet` with the weights of effdet's `tf_efficientdet_d0` .. `d7x` or `lite0` ..

    Those of `efficientdet_d0` .. go into one built with `convention="torch"`.

    Those networks speak about anchors of 1.4 by 0.7; the predictions of boxes are changed to ours, of `sqrt(2)` by
    `1 / sqrt(2)`, so that the decoded boxes are the same. effdet hands its Lite networks `(x - 127.5) / 127.5`, ours
    take `(x - 127) / 128`, as the authors' do.

    Args:
        model: Of the same variant, convention and number of classes: 90 for COCO.
        source: The `.pth` file of a state dict, or the state dict.

    Raises:
        WeightsError: If PyTorch is missing, or the weights are damaged or do not fit. The model stays as it was.
    """
    name, tensors = read_tensors(source)
    levels = len(model.objective.anchors.strides)
    modules = {efficientdet_module(path, levels): layer for path, layer in named_layers(model).items()}
    assign_tensors(modules, _with_our_anchors(tensors, model.num_classes, source=name), source=name)


def named_layers(model: OneStageDetector) -> dict[str, keras.Layer]:
    """Returns the layers of an `EfficientDet` that have weights, those of the backbone behind "backbone/"."""
    backbone = model.network.get_layer(_BACKBONE)
    found = {f"{_BACKBONE}/{layer.name}": layer for layer in backbone.layers}
    found |= {layer.name: layer for layer in model.network.layers if layer is not backbone}
    return {path: layer for path, layer in found.items() if layer.weights}


def efficientnet_module(layer_name: str) -> str:
    """Returns the timm module of an `EfficientNet` layer: "stage2_block1_expand_conv" is "blocks.1.0.conv_pw".

    Raises:
        ValueError: If the layer is none of an `EfficientNet`.
    """
    if layer_name in _ENDS:
        return _ENDS[layer_name]
    found = re.fullmatch(r"stage(\d)_block(\d+)_(\w+)", layer_name)
    parts = _FIRST_STAGE_PARTS if found and found[1] == "1" else _BLOCK_PARTS
    if not found or found[3] not in parts:
        raise ValueError(f"Expected a layer of an EfficientNet, got {layer_name!r}. Build it by EfficientNet.")
    return f"blocks.{int(found[1]) - 1}.{int(found[2]) - 1}.{parts[found[3]]}"


def efficientdet_module(path: str, levels: int) -> str:
    """Returns the effdet module of a layer of `named_layers`: "fusion_p6_bn" is "fpn.resample.3.conv.bn".

    Args:
        path: As `named_layers` has it.
        levels: Of the pyramid.

    Raises:
        ValueError: If effdet's detector has no such layer.
    """
    if path.startswith(f"{_BACKBONE}/"):
        return f"backbone.{efficientnet_module(path.removeprefix(f'{_BACKBONE}/'))}"
    if found := re.fullmatch(r"fusion_p(\d)_(conv|bn)", path):
        return f"fpn.resample.{int(found[1]) - _FINEST}.conv.{found[2]}"
    if found := re.fullmatch(r"fusion_cell(\d+)_node(\d+)_(?:in(\d+)_)?(conv|bn|fusion)", path):
        node = f"fpn.cell.{int(found[1]) - 1}.fnode.{int(found[2]) - levels}"
        if found[4] == "fusion":
            return f"{node}.combine"
        if found[3]:
            return f"{node}.combine.resample.{found[3]}.conv.{found[4]}"
        return f"{node}.after_combine.conv" + (".bn" if found[4] == "bn" else "")
    if found := re.fullmatch(r"(box|class)_net_conv(\d)(?:_p(\d)_bn)?", path):
        step = int(found[2]) - 1
        part = f"bn_rep.{step}.{int(found[3]) - _FINEST}.bn" if found[3] else f"conv_rep.{step}"
        return f"{found[1]}_net.{part}"
    if found := re.fullmatch(r"predict_(box|class)", path):
        return f"{found[1]}_net.predict"
    raise ValueError(f"Expected a layer that effdet's EfficientDet has, got {path!r}. Build it by EfficientDet.")


def _with_our_anchors(tensors: Tensors, num_classes: int, *, source: str) -> Tensors:
    """Puts the predictions in the order of our anchors, deltas as (x, y, width, height), relative to our shapes.

    Raises:
        WeightsError: If one of these tensors has another number of rows; one that is missing is left to
            `assign_tensors`.
    """
    changed = dict(tensors)
    for part, depth in (("class", num_classes), ("box", 4)):
        for kind in ("weight", "bias"):
            key = f"{part}_net.predict.conv_pw.{kind}"
            rows = len(_THEIR_SHAPES) * _OCTAVES * depth
            if key not in tensors:
                continue
            if tensors[key].shape[:1] != (rows,):
                raise WeightsError(
                    f"Expected {source} to hold {key!r} with {rows} rows, got shape {tensors[key].shape}. Build the "
                    "model with the number of classes of these weights."
                )
            values = tensors[key].reshape(_OCTAVES, len(_THEIR_SHAPES), depth, -1)
            values = values[:, _SHAPES_OF_THEIRS].swapaxes(0, 1)  # [shapes, octaves, depth, ..]
            if part == "box":
                values = _relative_to_our_shapes(values[:, :, [1, 0, 3, 2]], is_bias=kind == "bias")
            changed[key] = values.reshape(tensors[key].shape)
    return changed


def _relative_to_our_shapes(values: np.ndarray, *, is_bias: bool) -> np.ndarray:
    """A center moves by deltas times sides; a side is the exponential of a delta times a side."""
    ratios = np.array(_THEIR_SHAPES) / np.array(_OUR_SHAPES)  # [shapes, (width, height)]
    values = values.copy()
    values[:, :, :2] *= ratios[:, None, :, None].astype(values.dtype)
    if is_bias:
        values[:, :, 2:] += np.log(ratios)[:, None, :, None].astype(values.dtype)
    return values
