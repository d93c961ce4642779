"""Loads weights of timm's EfficientNets and effdet's EfficientDets, of those ported from TensorFlow ("tf_..") too."""

import re
from pathlib import Path

import keras
import numpy as np

from keras_lightdet.builder import BACKBONE
from keras_lightdet.detection import OneStageDetector
from keras_lightdet.errors import WeightsError
from keras_lightdet.foreign_weights.assign import assign_tensors
from keras_lightdet.foreign_weights.module_names import ModuleNames, conv_bn, named_layers
from keras_lightdet.foreign_weights.torch_file import StateDict, TensorDict, read_tensors

_SQUEEZE = {"squeeze_reduce": "se.conv_reduce", "squeeze_expand": "se.conv_expand"}
EFFICIENTNET = ModuleNames(
    "EfficientNet",
    ends={**conv_bn(stem=("conv_stem", "bn1"), head=("conv_head", "bn2")), "classifier": "classifier"},
    units={**conv_bn(expand=("conv_pw", "bn1"), depthwise=("conv_dw", "bn2"), project=("conv_pwl", "bn3")), **_SQUEEZE},
    first_units={**conv_bn(depthwise=("conv_dw", "bn1"), project=("conv_pw", "bn2")), **_SQUEEZE},
    block=lambda stage, block: f"blocks.{stage - 1}.{block - 1}.",
)
_FINEST = 3  # level of the first map
# Anchors of a cell: in effdet octaves of three shapes each, here shapes of three octaves each. Shapes are (width,
# height) over the side of the square anchor, in the order of this package; `_EFFDET_ORDER` has their indices in effdet.
_EFFDET_ORDER = (1, 0, 2)
_EFFDET_SHAPES = ((1.4, 0.7), (1.0, 1.0), (0.7, 1.4))
_SHAPES = ((2**0.5, 0.5**0.5), (1.0, 1.0), (0.5**0.5, 2**0.5))
_OCTAVES = 3


def load_efficientnet(model: keras.Model, source: str | Path | StateDict) -> None:
    """Loads weights of timm's `tf_efficientnet_b0` .. `b7` or `lite0` .. `lite4` into an `EfficientNet`.

    Those of `efficientnet_b0` .. need `convention="torch"`: the tensors fit both conventions, but the results differ.

    Args:
        model: The classifier or the features, of the same variant and convention.
        source: The `.pth` file of a state dict, or the state dict.

    Raises:
        WeightsError: If PyTorch is missing, or the weights are damaged or do not fit. The model does not change then.
    """
    EFFICIENTNET.load(model, source)


def load_efficientdet(model: OneStageDetector, source: str | Path | StateDict) -> None:
    """Loads weights of effdet's `tf_efficientdet_d0` .. `d7x` or `lite0` .. into an `EfficientDet`.

    Those of `efficientdet_d0` .. need `convention="torch"`.

    effdet's anchors are 1.4 by 0.7, those of this package `sqrt(2)` by `1 / sqrt(2)`. The predictions of boxes are
    adapted, so that the decoded boxes are the same. effdet normalizes the images of its Lite networks by
    `(x - 127.5) / 127.5`, this package by `(x - 127) / 128` as the authors do.

    Args:
        model: Of the same variant, convention and number of classes: 90 for COCO.
        source: The `.pth` file of a state dict, or the state dict.

    Raises:
        WeightsError: If PyTorch is missing, or the weights are damaged or do not fit. The model does not change then.
    """
    name, tensors = read_tensors(source)
    tensors = _adapt_to_anchors(tensors, model.num_classes, source=name)
    assign_tensors(efficientdet_modules(model), tensors, source=name)


def efficientdet_modules(model: OneStageDetector) -> dict[str, keras.Layer]:
    """Returns the layers of an `EfficientDet` with weights, by the names of their modules in effdet."""
    levels = len(model.objective.anchors.strides)
    return {_module(path, levels): layer for path, layer in named_layers(model.network).items()}


def _module(path: str, levels: int) -> str:
    """Returns "fpn.resample.3.conv.bn" for "fusion_p6_bn"; `levels` is the number of levels of the pyramid."""
    if path.startswith(f"{BACKBONE}/"):
        return f"backbone.{EFFICIENTNET.module(path.removeprefix(f'{BACKBONE}/'))}"
    if match := re.fullmatch(r"fusion_p(\d)_(conv|bn)", path):
        return f"fpn.resample.{int(match[1]) - _FINEST}.conv.{match[2]}"
    if match := re.fullmatch(r"fusion_cell(\d+)_node(\d+)_(?:in(\d+)_)?(conv|bn|fusion)", path):
        node = f"fpn.cell.{int(match[1]) - 1}.fnode.{int(match[2]) - levels}"
        if match[4] == "fusion":
            return f"{node}.combine"
        if match[3]:
            return f"{node}.combine.resample.{match[3]}.conv.{match[4]}"
        return f"{node}.after_combine.conv" + (".bn" if match[4] == "bn" else "")
    if match := re.fullmatch(r"(box|class)_net_conv(\d)(?:_p(\d)_bn)?", path):
        step = int(match[2]) - 1
        suffix = f"bn_rep.{step}.{int(match[3]) - _FINEST}.bn" if match[3] else f"conv_rep.{step}"
        return f"{match[1]}_net.{suffix}"
    if match := re.fullmatch(r"predict_(box|class)", path):
        return f"{match[1]}_net.predict"
    raise ValueError(f"Expected a layer that effdet's EfficientDet has, got {path!r}. Build it by EfficientDet.")


def _adapt_to_anchors(tensors: TensorDict, num_classes: int, *, source: str) -> TensorDict:
    """Reorders the predictions by this package's anchors, and deltas as (x, y, width, height) of their shapes."""
    adapted = dict(tensors)
    for task, depth in (("class", num_classes), ("box", 4)):
        for kind in ("weight", "bias"):
            key = f"{task}_net.predict.conv_pw.{kind}"
            rows = len(_SHAPES) * _OCTAVES * depth
            if key not in tensors:  # `assign_tensors` refuses this
                continue
            if tensors[key].shape[:1] != (rows,):
                raise WeightsError(
                    f"Expected {source} to contain {key!r} with {rows} rows, got shape {tensors[key].shape}. Build the "
                    "model with the number of classes of these weights."
                )
            values = tensors[key].reshape(_OCTAVES, len(_SHAPES), depth, -1)
            values = values[:, _EFFDET_ORDER].swapaxes(0, 1)  # [shapes, octaves, depth, ..]
            if task == "box":
                values = _relative_to_shapes(values[:, :, [1, 0, 3, 2]], is_bias=kind == "bias")
            adapted[key] = values.reshape(tensors[key].shape)
    return adapted


def _relative_to_shapes(values: np.ndarray, *, is_bias: bool) -> np.ndarray:
    """Returns deltas relative to the shapes of this package: centers scale with a shape, sizes with its logarithm."""
    ratios = np.array(_EFFDET_SHAPES) / np.array(_SHAPES)  # [shapes, (width, height)]
    values = values.copy()
    values[:, :, :2] *= ratios[:, None, :, None].astype(values.dtype)
    if is_bias:
        values[:, :, 2:] += np.log(ratios)[:, None, :, None].astype(values.dtype)
    return values
