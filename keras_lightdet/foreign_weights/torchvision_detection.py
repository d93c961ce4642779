"""Loads weights of torchvision's Faster R-CNN into `FasterRCNN`."""

import re
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from keras_lightdet.builder import BACKBONE
from keras_lightdet.detection import TwoStageDetector
from keras_lightdet.errors import WeightsError
from keras_lightdet.foreign_weights.assign import assign_tensors, scale_gammas
from keras_lightdet.foreign_weights.module_names import named_layers
from keras_lightdet.foreign_weights.torch_file import StateDict, TensorDict, read_tensors
from keras_lightdet.foreign_weights.torchvision import RESNET
from keras_lightdet.layers import TORCH_NORM

_HEAD_MODULES = {
    "rpn_conv": "rpn.head.conv.0.0",
    "rpn_object": "rpn.head.cls_logits",
    "rpn_box": "rpn.head.bbox_pred",
    "hidden1": "roi_heads.box_head.fc6",
    "hidden2": "roi_heads.box_head.fc7",
    "regions_class": "roi_heads.box_predictor.cls_score",
    "regions_box_of_class": "roi_heads.box_predictor.bbox_pred",
}
# torchvision's lists of the pyramid's modules, from P2 on.
_FPN_BLOCKS = {"lateral": "inner_blocks", "out": "layer_blocks"}
# In files of torchvision before 0.13, among them the published ones, the names of these modules lack the "0".
_OLD_NAMES = (
    (r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$", r"\1.0.\2"),
    (r"^rpn\.head\.conv\.(weight|bias)$", r"rpn.head.conv.0.0.\1"),
)


def load_faster_rcnn(
    model: TwoStageDetector, source: str | Path | StateDict, *, epsilon: float = TORCH_NORM.epsilon
) -> None:
    """Loads weights of torchvision's `fasterrcnn_resnet50_fpn`, or of a variation of it, into a `FasterRCNN`.

    torchvision's first class is the background, which is the last class here; so its labels are larger by 1. Its
    unused box of the background is omitted.

    With sides in multiples of 64 the results are torchvision's. With other sides torchvision places the anchors of a
    level whose last row or column is cut at a distance slightly less than the stride.

    Args:
        model: With the same depth, widths and number of classes: 90 for the 91 of torchvision on COCO.
        source: The `.pth` file of a state dict, or the state dict.
        epsilon: Of the batch norms of the network that the weights are from: 0 for torchvision's
            `FasterRCNN_ResNet50_FPN_Weights.COCO_V1`, else 1e-5.

    Raises:
        WeightsError: If PyTorch is missing, or the weights are damaged or do not fit. The model does not change then.
    """
    name, tensors = read_tensors(source)
    modules = faster_rcnn_modules(model)
    tensors = _reorder(_with_new_names(tensors), modules, source=name)
    assign_tensors(modules, scale_gammas(tensors, modules, epsilon), source=name)


def faster_rcnn_modules(model: TwoStageDetector) -> dict[str, keras.Layer]:
    """Returns the layers of a `FasterRCNN` that have weights, by the names of their modules in torchvision."""
    return {_module(path): layer for path, layer in named_layers(model.rpn, model.region_network).items()}


def _module(path: str) -> str:
    """Returns "backbone.fpn.layer_blocks.0.0" for "fpn_p2_out"."""
    if path.startswith(f"{BACKBONE}/"):
        return f"backbone.body.{RESNET.module(path.removeprefix(f'{BACKBONE}/'))}"
    block = re.fullmatch(r"fpn_p([2-5])_(lateral|out)", path)
    if block:
        return f"backbone.fpn.{_FPN_BLOCKS[block[2]]}.{int(block[1]) - 2}.0"
    if path not in _HEAD_MODULES:
        raise ValueError(f"Expected a layer that torchvision's Faster R-CNN has, got {path!r}. Build it by FasterRCNN.")
    return _HEAD_MODULES[path]


def _with_new_names(tensors: TensorDict) -> TensorDict:
    for old, new in _OLD_NAMES:
        tensors = {re.sub(old, new, key): value for key, value in tensors.items()}
    return tensors


def _reorder(tensors: TensorDict, modules: Mapping[str, keras.Layer], *, source: str) -> TensorDict:
    """Moves the background to the end and the channels of a region behind its rows and columns."""
    hidden, scores, boxes = (_HEAD_MODULES[layer] for layer in ("hidden1", "regions_class", "regions_box_of_class"))
    width = modules["backbone.fpn.layer_blocks.0.0"].filters
    changes = {
        f"{hidden}.weight": lambda x: x.reshape(len(x), width, -1).transpose(0, 2, 1).reshape(len(x), -1),
        f"{scores}.weight": lambda x: np.roll(x, -1, axis=0),
        f"{scores}.bias": lambda x: np.roll(x, -1, axis=0),
        f"{boxes}.weight": lambda x: x[4:],
        f"{boxes}.bias": lambda x: x[4:],
    }
    reordered = dict(tensors)
    for key, change in changes.items():
        module, _, suffix = key.rpartition(".")
        inputs, rows = modules[module].kernel.shape
        rows += 4 if module == boxes else 0  # of the background
        shape = (rows, inputs) if suffix == "weight" else (rows,)
        if key not in tensors:  # `assign_tensors` refuses this
            continue
        if tensors[key].shape != shape:
            raise WeightsError(
                f"Expected {source} to contain {key!r} of shape {shape}, got shape {tensors[key].shape}. Build the "
                "model with the widths of these weights and one class less: torchvision counts the background."
            )
        reordered[key] = change(tensors[key])
    return reordered
