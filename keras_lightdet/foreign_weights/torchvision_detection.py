"""torchvision's Faster R-CNN in ours: its modules by our layers, and its tensors in our order."""

import re
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from keras_lightdet.detection import TwoStageDetector
from keras_lightdet.errors import WeightsError
from keras_lightdet.foreign_weights.assign import assign_tensors, with_our_epsilon
from keras_lightdet.foreign_weights.torch_file import Tensors, read_tensors
from keras_lightdet.foreign_weights.torchvision import resnet_module

_BACKBONE = "backbone"
_HEAD_MODULES = {
    "rpn_conv": "rpn.head.conv.0.0",
    "rpn_object": "rpn.head.cls_logits",
    "rpn_box": "rpn.head.bbox_pred",
    "hidden1": "roi_heads.box_head.fc6",
    "hidden2": "roi_heads.box_head.fc7",
    "regions_class": "roi_heads.box_predictor.cls_score",
    "regions_box_of_class": "roi_heads.box_predictor.bbox_pred",
}
# The pyramid's lists of modules in torchvision, from P2 on.
_FPN_BLOCKS = {"lateral": "inner_blocks", "out": "layer_blocks"}
# Files of torchvision before 0.13, the published ones among them, name these modules without their "0".
_OLD_NAMES = (
    (re.compile(r"(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)"), r"\1.0.\2"),
    (re.compile(r"rpn\.head\.conv\.(weight|bias)"), r"rpn.head.conv.0.0.\1"),
)
TORCH_EPSILON = 1e-5


def load_faster_rcnn(model: TwoStageDetector, source: str | Path | Mapping, *, epsilon: float = TORCH_EPSILON) -> None:
    """Fills a `FasterRCNN` with the weights of torchvision's `fasterrcnn_resnet50_fpn` or one built like it.

    torchvision's first class is the background, ours the last; of its boxes that of the background is left out, which
    nothing reads. Its labels are ours and 1.

    With sides in multiples of 64 the answers are torchvision's. On others torchvision spreads the anchors of a level
    whose last row or column is cut a little less widely than its stride.

    Args:
        model: Built with the same depth, widths and number of classes: 90 for COCO's 91 of torchvision.
        source: The `.pth` file of a state dict, or the state dict.
        epsilon: What the batch norms of the network of the weights add to their variances. torchvision takes 0 for
            `FasterRCNN_ResNet50_FPN_Weights.COCO_V1`, and 1e-5 elsewhere.

    Raises:
        WeightsError: If PyTorch is missing, or the weights are damaged or do not fit. The model stays as it was.
    """
    name, tensors = read_tensors(source)
    modules = {faster_rcnn_module(path): layer for path, layer in named_layers(model).items()}
    tensors = _with_our_order(_with_new_names(tensors), named_layers(model), source=name)
    if epsilon != TORCH_EPSILON:
        tensors = with_our_epsilon(tensors, modules, epsilon)
    assign_tensors(modules, tensors, source=name)


def named_layers(model: TwoStageDetector) -> dict[str, keras.Layer]:
    """Returns the layers of a `FasterRCNN` that have weights, those of the backbone behind "backbone/"."""
    backbone = model.rpn.get_layer(_BACKBONE)
    found = {f"{_BACKBONE}/{layer.name}": layer for layer in backbone.layers}
    found |= {layer.name: layer for layer in model.rpn.layers if layer is not backbone}
    found |= {layer.name: layer for layer in model.region_network.layers}
    return {path: layer for path, layer in found.items() if layer.weights}


def faster_rcnn_module(path: str) -> str:
    """Returns the torchvision module of a layer of `named_layers`: "fpn_p2_out" is "backbone.fpn.layer_blocks.0.0".

    Raises:
        ValueError: If torchvision's detector has no such layer.
    """
    if path.startswith(f"{_BACKBONE}/"):
        return f"backbone.body.{resnet_module(path.removeprefix(f'{_BACKBONE}/'))}"
    block = re.fullmatch(r"fpn_p([2-5])_(lateral|out)", path)
    if block:
        return f"backbone.fpn.{_FPN_BLOCKS[block[2]]}.{int(block[1]) - 2}.0"
    if path not in _HEAD_MODULES:
        raise ValueError(f"Expected a layer that torchvision's Faster R-CNN has, got {path!r}. Build it by FasterRCNN.")
    return _HEAD_MODULES[path]


def _with_new_names(tensors: Tensors) -> Tensors:
    renamed = {}
    for key, value in tensors.items():
        for pattern, new in _OLD_NAMES:
            key = pattern.sub(new, key) if pattern.fullmatch(key) else key
        renamed[key] = value
    return renamed


def _with_our_order(tensors: Tensors, layers: Mapping[str, keras.Layer], *, source: str) -> Tensors:
    """Puts the background last and the channels of a region behind its rows and columns.

    Raises:
        WeightsError: If one of these tensors has another shape; one that is missing is left to `assign_tensors`.
    """
    classes, width = layers["regions_class"].kernel.shape[1], layers["fpn_p2_out"].filters
    changes = {
        ("hidden1", "weight"): lambda x: x.reshape(len(x), width, -1).transpose(0, 2, 1).reshape(len(x), -1),
        ("regions_class", "weight"): lambda x: np.roll(x, -1, axis=0),
        ("regions_class", "bias"): lambda x: np.roll(x, -1, axis=0),
        ("regions_box_of_class", "weight"): lambda x: x[4:],
        ("regions_box_of_class", "bias"): lambda x: x[4:],
    }
    changed = dict(tensors)
    for (path, part), change in changes.items():
        key, kernel = f"{faster_rcnn_module(path)}.{part}", layers[path].kernel
        rows = 4 * classes if path == "regions_box_of_class" else kernel.shape[1]
        shape = (rows, kernel.shape[0]) if part == "weight" else (rows,)
        if key not in tensors:
            continue
        if tensors[key].shape != shape:
            raise WeightsError(
                f"Expected {source} to hold {key!r} of shape {shape}, got shape {tensors[key].shape}. Build the model "
                "with the widths of these weights, and with one class less: torchvision counts the background."
            )
        changed[key] = change(tensors[key])
    return changed
