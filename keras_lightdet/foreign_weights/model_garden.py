"""Loads weights of TensorFlow Model Garden's SpineNets and RetinaNets (`official.vision`).

A checkpoint names its variables by their place in the Model Garden's objects. Build the Model Garden's model first with
its own code (the extra `model-garden`) and restore the checkpoint; this module reads the model. The Model Garden's
classes are Keras 2's and are not imported here.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
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
from keras_lightdet.foreign_weights.module_names import conv_bn
from keras_lightdet.weights import set_weights

Pair: TypeAlias = tuple[keras.Layer, Any]  # a layer of this package and the Model Garden's

# The Model Garden's class for each kind of block, and its attributes by the units of a block.
_BLOCKS = {
    "bottleneck": (
        "BottleneckBlock",
        conv_bn(
            shortcut=("_shortcut", "_norm0"),
            reduce=("_conv1", "_norm1"),
            spatial=("_conv2", "_norm2"),
            expand=("_conv3", "_norm3"),
        ),
    ),
    "residual": ("ResidualBlock", conv_bn(spatial1=("_conv1", "_norm1"), spatial2=("_conv2", "_norm2"))),
    "mbconv": (
        "InvertedBottleneckBlock",
        {
            **conv_bn(expand=("_conv0", "_norm0"), depthwise=("_conv1", "_norm1"), project=("_conv2", "_norm2")),
            "squeeze_reduce": "_squeeze_excitation._se_reduce",
            "squeeze_expand": "_squeeze_excitation._se_expand",
        },
    ),
}
_COUNTED = ("Conv2D", "DepthwiseConv2D", "BatchNormalization", *(kind for kind, _ in _BLOCKS.values()))
# Convolutions between blocks in the order of creation.
_RESAMPLING = ("reduce", "spatial", *(f"depthwise{step}" for step in range(1, 6)), "match")
_BOX_ORDER = (1, 0, 3, 2)  # the Model Garden's deltas have y before x
_CURE = "Build both networks with the same size and number of classes."


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
    set_weights([(layer, _values(other)) for layer, other in backbone_pairs(model, source, blocks)], source.name, _CURE)


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
    set_weights(pairs, source.name, _CURE)


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
        for name, (kind, units) in _block_names(blocks, layers):
            block = next(queues[kind])
            paths = {f"{name}_{unit}": path for unit, path in units.items()}
            pairs += [(layers[key], attrgetter(path)(block)) for key, path in paths.items() if key in layers]
    except (KeyError, StopIteration) as error:
        raise WeightsError(
            f"Expected {source.name} to be the same network as {model.name}, got one with fewer layers. Build both "
            "with the same size and blocks, the Model Garden's for levels 3 to 7 and for an input of fixed size."
        ) from error
    if len(pairs) != len(layers) or any(next(queue, None) for kind, queue in queues.items() if kind in _COUNTED):
        raise WeightsError(f"Expected {source.name} to be the same network as {model.name}, got one with more layers.")
    return pairs


def _unit_names(blocks: Sequence[Block], layers: Mapping[str, keras.Layer]) -> Iterator[str]:
    """Yields the names of the convolutions outside of blocks, in the Model Garden's order of creation."""
    yield "stem"
    for index, block in enumerate(blocks, start=STEM_BLOCKS):
        names = [f"block{index}_from{parent}_{unit}" for parent in block.parents for unit in _RESAMPLING]
        yield from (name for name in names if f"{name}_conv" in layers)
    yield from (f"p{level}_out" for level in OUTPUT_LEVELS)


def _block_names(
    blocks: Sequence[Block], layers: Mapping[str, keras.Layer]
) -> Iterator[tuple[str, tuple[str, dict[str, str]]]]:
    """Yields the names of the blocks and their copies, with their entries of `_BLOCKS`."""
    stem = "mbconv" if blocks[0].kind == "mbconv" else "bottleneck"
    for index, kind in enumerate([*[stem] * STEM_BLOCKS, *(block.kind for block in blocks)]):
        copies = {match[0] for match in (re.match(rf"block{index}_copy\d+", name) for name in layers) if match}
        yield from ((name, _BLOCKS[kind]) for name in sorted(copies) or [f"block{index}"])


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
