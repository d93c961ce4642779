"""Loads weights of TensorFlow Model Garden's SpineNets and RetinaNets (`official.vision`).

A checkpoint names its variables by their place in the Model Garden's objects. Build the Model Garden's model first with
its own code (the extra `model-garden`) and restore the checkpoint; this module reads the model. The Model Garden's
classes are Keras 2's and are not imported here.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np

from keras_lightdet.backbones.mobile_spinenet import MOBILE_SPINENET
from keras_lightdet.backbones.scale_permuted import OUTPUT_LEVELS, STEM_BLOCKS, Block
from keras_lightdet.backbones.spinenet import SPINENET
from keras_lightdet.boxes import PyramidAnchors
from keras_lightdet.builder import BACKBONE
from keras_lightdet.detection import OneStageDetector
from keras_lightdet.errors import WeightsError

Pair: TypeAlias = tuple[keras.Layer, Any]  # a layer of this package and the Model Garden's

# The Model Garden's attributes for the units of a block: convolution and batch norm.
_BLOCK_UNITS = {
    "BottleneckBlock": {
        "shortcut": ("_shortcut", "_norm0"),
        "reduce": ("_conv1", "_norm1"),
        "spatial": ("_conv2", "_norm2"),
        "expand": ("_conv3", "_norm3"),
    },
    "ResidualBlock": {"spatial1": ("_conv1", "_norm1"), "spatial2": ("_conv2", "_norm2")},
    "InvertedBottleneckBlock": {
        "expand": ("_conv0", "_norm0"),
        "depthwise": ("_conv1", "_norm1"),
        "project": ("_conv2", "_norm2"),
    },
}
_KINDS = {"bottleneck": "BottleneckBlock", "residual": "ResidualBlock", "mbconv": "InvertedBottleneckBlock"}
_GATE = {"squeeze_reduce": "_se_reduce", "squeeze_expand": "_se_expand"}
_STEM_KINDS = {"bottleneck": "bottleneck", "residual": "bottleneck", "mbconv": "mbconv"}
_BOX_ORDER = (1, 0, 3, 2)  # the Model Garden's deltas have y before x


def load_model_garden_spinenet(model: keras.Model, source: Any, *, blocks: Sequence[Block] | None = None) -> None:
    """Loads weights of the Model Garden's backbone into a `SpineNet` or `MobileSpineNet`.

    Args:
        model: The features, of the same size.
        source: `official.vision.modeling.backbones.SpineNet` or `SpineNetMobile`, for levels 3 to 7 and an input of
            fixed size (without the width it lacks a block).
        blocks: The scale-permuted network of both; `None` for the published one.

    Raises:
        WeightsError: If the networks differ. The model does not change then.
    """
    _assign([(layer, _values(other)) for layer, other in backbone_pairs(model, source, blocks)])


def load_model_garden_retinanet(model: OneStageDetector, source: Any) -> None:
    """Loads weights of the Model Garden's RetinaNet into a `RetinaNet` on a SpineNet or mobile SpineNet.

    Anchors and deltas are reordered. Class `k` of the Model Garden, 0 for the background, stays class `k`.

    Args:
        model: The detector, of the same variant and number of classes.
        source: `official.vision.modeling.retinanet_model.RetinaNetModel`, built.

    Raises:
        WeightsError: If the networks differ. The model does not change then.
    """
    network, head = model.network, source.head
    pairs = [(layer, _values(other)) for layer, other in backbone_pairs(network.get_layer(BACKBONE), source.backbone)]
    ratios, anchors = source.get_config()["aspect_ratios"], model.objective.anchors
    assert isinstance(anchors, PyramidAnchors)
    towers = (
        ("class", "_cls_convs", "_cls_norms", "_classifier"),
        ("box", "_box_convs", "_box_norms", "_box_regressor"),
    )
    for task, convs, norms, predictor in towers:
        # A list with one list of convolutions if levels share them; in older versions only the inner list.
        shared = getattr(head, convs)
        shared = shared[0] if isinstance(shared[0], Sequence) else shared
        for step, conv in enumerate(shared, start=1):
            pairs.append((network.get_layer(f"{task}_net_conv{step}"), _values(conv)))
            for level, level_norms in zip(OUTPUT_LEVELS, getattr(head, norms), strict=True):
                layer = network.get_layer(f"{task}_net_conv{step}_p{level}_bn")
                pairs.append((layer, _values(level_norms[step - 1])))
        values = _reorder(_values(getattr(head, predictor)), anchors, ratios, is_box=task == "box")
        pairs.append((network.get_layer(f"predict_{task}"), values))
    _assign(pairs)


def backbone_pairs(model: keras.Model, source: Any, blocks: Sequence[Block] | None = None) -> list[Pair]:
    """Returns all layers with weights, and the Model Garden's layer for each.

    The Model Garden's layers have only the names that Keras gives them, which number them in the order of creation.
    Arguments and errors are those of `load_model_garden_spinenet`.
    """
    mobile = any(layer.name.startswith("block0_depthwise") for layer in model.layers)
    blocks = [Block(*block) for block in blocks or (MOBILE_SPINENET if mobile else SPINENET)]
    by_class: dict[str, list[Any]] = {}
    for layer in sorted(source.layers, key=_number):
        by_class.setdefault(type(layer).__name__, []).append(layer)
    queues = {kind: iter(layers) for kind, layers in by_class.items()}
    layers = {layer.name: layer for layer in model.layers if layer.weights}
    pairs = []
    try:
        for name in _unit_names(blocks, layers):
            kind = type(layers[f"{name}_conv"]).__name__
            pairs.append((layers[f"{name}_conv"], next(queues[kind])))
            pairs.append((layers[f"{name}_bn"], next(queues["BatchNormalization"])))
        for name, kind in _block_names(blocks, layers, mobile=mobile):
            pairs += _block_pairs(layers, next(queues[_KINDS[kind]]), name, _KINDS[kind])
    except (KeyError, StopIteration) as error:
        raise WeightsError(
            f"Expected {source.name} to be the same network as {model.name}, got one with fewer layers. Build both "
            "with the same size and blocks, the Model Garden's for levels 3 to 7 and for an input of fixed size."
        ) from error
    if len(pairs) != len(layers) or any(next(queue, None) for kind, queue in queues.items() if kind in _COUNTED):
        raise WeightsError(f"Expected {source.name} to be the same network as {model.name}, got one with more layers.")
    return pairs


_COUNTED = ("Conv2D", "DepthwiseConv2D", "BatchNormalization", *_BLOCK_UNITS)


def _unit_names(blocks: Sequence[Block], layers: Mapping[str, keras.Layer]) -> Iterator[str]:
    """Yields the names of the convolutions outside of blocks, in the Model Garden's order of creation."""
    yield "stem"
    units = ("reduce", "spatial", "depthwise1", "depthwise2", "depthwise3", "depthwise4", "depthwise5", "match")
    for index, block in enumerate(blocks, start=STEM_BLOCKS):
        for parent in block.parents:
            for unit in units:
                if f"block{index}_from{parent}_{unit}_conv" in layers:
                    yield f"block{index}_from{parent}_{unit}"
    yield from (f"p{level}_out" for level in OUTPUT_LEVELS)


def _block_names(
    blocks: Sequence[Block], layers: Mapping[str, keras.Layer], *, mobile: bool
) -> Iterator[tuple[str, str]]:
    """Yields the names of the blocks and their copies, with their kinds."""
    stem = _STEM_KINDS[blocks[0].kind]
    for index, kind in enumerate([*[stem] * STEM_BLOCKS, *(block.kind for block in blocks)]):
        if mobile:
            yield f"block{index}", kind
            continue
        copy = 1
        while any(name.startswith(f"block{index}_copy{copy}_") for name in layers):
            yield f"block{index}_copy{copy}", kind
            copy += 1


def _block_pairs(layers: Mapping[str, keras.Layer], block: Any, name: str, kind: str) -> list[Pair]:
    pairs = []
    for unit, (conv, norm) in _BLOCK_UNITS[kind].items():
        if f"{name}_{unit}_conv" in layers:
            pairs.append((layers[f"{name}_{unit}_conv"], getattr(block, conv)))
            pairs.append((layers[f"{name}_{unit}_bn"], getattr(block, norm)))
    for unit, conv in _GATE.items():
        if f"{name}_{unit}" in layers:
            pairs.append((layers[f"{name}_{unit}"], getattr(block._squeeze_excitation, conv)))
    return pairs


def _reorder(
    values: list[np.ndarray], anchors: PyramidAnchors, ratios: Sequence[float], *, is_box: bool
) -> list[np.ndarray]:
    """Reorders a prediction's last axis by this package's anchors.

    The Model Garden's anchors are sizes of several aspect ratios each, width over height; here they are ratios of
    height over width of several sizes each.
    """
    order = [list(ratios).index(1 / ratio) for ratio in anchors.aspect_ratios]
    *others, kernel, bias = values

    def reorder(x: np.ndarray) -> np.ndarray:
        x = x.reshape(*x.shape[:-1], len(anchors.sizes[0]), len(order), -1).swapaxes(-3, -2)[..., order, :, :]
        x = x[..., _BOX_ORDER] if is_box else x
        return x.reshape(*x.shape[:-3], -1)

    return [*others, reorder(kernel), reorder(bias)]


def _values(layer: Any) -> list[np.ndarray]:
    return [np.asarray(value) for value in layer.get_weights()]


def _number(layer: Any) -> int:
    """Returns how many layers of the class were created before: 12 for "conv2d_12", 0 for "conv2d"."""
    match = re.search(r"_(\d+)$", layer.name)
    return int(match[1]) if match else 0


def _assign(pairs: Sequence[tuple[keras.Layer, list[np.ndarray]]]) -> None:
    for layer, values in pairs:
        expected, actual = [tuple(weight.shape) for weight in layer.weights], [value.shape for value in values]
        if actual != expected:
            raise WeightsError(
                f"Expected weights {expected} for the layer {layer.name!r}, got {actual}. Build both networks with the "
                "same size and number of classes."
            )
    for layer, values in pairs:
        layer.set_weights(values)
