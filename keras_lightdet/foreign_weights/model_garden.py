"""TensorFlow Model Garden's SpineNets and RetinaNets (`official.vision`) in our models.

A checkpoint names its variables by their place in the Model Garden's own objects. So these are built first, by its own
code (the extra `model-garden`), and filled; what is read here are the models. Its classes are Keras 2's: nothing of
them is imported here.
"""

import re
from collections.abc import Iterator, Sequence

import keras
import numpy as np

from keras_lightdet.backbones.mobile_spinenet import MOBILE_SPINENET
from keras_lightdet.backbones.scale_permuted import OUTPUT_LEVELS, STEM_BLOCKS, Block
from keras_lightdet.backbones.spinenet import SPINENET
from keras_lightdet.boxes import PyramidAnchors
from keras_lightdet.detection import OneStageDetector
from keras_lightdet.errors import WeightsError

# Layers of a block by the Model Garden's attributes, in pairs of convolution and batch norm.
_BLOCK_PARTS = {
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
_BOX_ORDER = (1, 0, 3, 2)  # theirs say y before x


def load_model_garden_spinenet(model: keras.Model, source, *, blocks: Sequence[Block] | None = None) -> None:
    """Fills the features of a `SpineNet` or `MobileSpineNet`.

    Args:
        model: The features, of the same size.
        source: `official.vision.modeling.backbones.SpineNet` or `SpineNetMobile`, for levels 3 to 7 and an input of
            fixed size (it loses a block where it does not know the width).
        blocks: The graph of both; the published one if `None`.

    Raises:
        WeightsError: If the networks differ. The model stays as it was.
    """
    _assign([(layer, _values(other)) for layer, other in backbone_pairs(model, source, blocks)])


def load_model_garden_retinanet(model: OneStageDetector, source) -> None:
    """Fills a `RetinaNet` on a SpineNet or mobile SpineNet.

    Anchors and boxes are brought into our order. Class `k` of theirs, 0 for the background, stays class `k`.

    Args:
        model: The detector, of the same variant and number of classes.
        source: `official.vision.modeling.retinanet_model.RetinaNetModel`, built.

    Raises:
        WeightsError: If the networks differ. The model stays as it was.
    """
    network = model.network
    pairs = backbone_pairs(network.get_layer("backbone"), source.backbone)
    pairs = [(layer, _values(other)) for layer, other in pairs]
    head = source.head
    towers = (
        ("class", "_cls_convs", "_cls_norms", "_classifier"),
        ("box", "_box_convs", "_box_norms", "_box_regressor"),
    )
    for part, convs, norms, predictor in towers:
        # One list of convolutions where levels share them; older versions have it bare.
        shared = getattr(head, convs)
        shared = shared[0] if isinstance(shared[0], Sequence) else shared
        for step, conv in enumerate(shared, start=1):
            pairs.append((network.get_layer(f"{part}_net_conv{step}"), _values(conv)))
            for level, level_norms in zip(OUTPUT_LEVELS, getattr(head, norms), strict=True):
                layer = network.get_layer(f"{part}_net_conv{step}_p{level}_bn")
                pairs.append((layer, _values(level_norms[step - 1])))
        predict = network.get_layer(f"predict_{part}")
        ratios = source.get_config()["aspect_ratios"]
        values = _reorder(_values(getattr(head, predictor)), model.objective.anchors, ratios, part)
        pairs.append((predict, values))
    _assign(pairs)


def backbone_pairs(model: keras.Model, source, blocks: Sequence[Block] | None = None) -> list[tuple]:
    """Returns every layer of ours with weights, and the layer of theirs that it stands for.

    Theirs have no names but those that Keras gives them, which count them in the order of their making. Arguments and
    errors are those of `load_model_garden_spinenet`.
    """
    mobile = any(layer.name.startswith("block0_depthwise") for layer in model.layers)
    blocks = [Block(*block) for block in blocks or (MOBILE_SPINENET if mobile else SPINENET)]
    made = {}
    for layer in sorted(source.layers, key=_count):
        made.setdefault(type(layer).__name__, []).append(layer)
    queues = {kind: iter(found) for kind, found in made.items()}
    ours = {layer.name: layer for layer in model.layers if layer.weights}
    pairs = []
    try:
        for name in _unit_names(blocks, ours):
            kind = type(ours[f"{name}_conv"]).__name__
            pairs.append((ours[f"{name}_conv"], next(queues[kind])))
            pairs.append((ours[f"{name}_bn"], next(queues["BatchNormalization"])))
        for name, kind in _block_names(blocks, ours, mobile):
            pairs += _block_pairs(ours, next(queues[_KINDS[kind]]), name, _KINDS[kind])
    except (KeyError, StopIteration) as error:
        raise WeightsError(
            f"Expected {source.name} to be the network that {model.name} is, got one with fewer layers. Build both of "
            "the same size and graph, theirs for levels 3 to 7 and for an input whose width it knows."
        ) from error
    if len(pairs) != len(ours) or any(next(queue, None) for kind, queue in queues.items() if kind in _COUNTED):
        raise WeightsError(f"Expected {source.name} to be the network that {model.name} is, got one with more layers.")
    return pairs


_COUNTED = ("Conv2D", "DepthwiseConv2D", "BatchNormalization", *_BLOCK_PARTS)


def _unit_names(blocks: Sequence[Block], ours: dict) -> Iterator[str]:
    """Names of the convolutions outside of blocks, in the order that theirs are made in."""
    yield "stem"
    parts = ("reduce", "spatial", "depthwise1", "depthwise2", "depthwise3", "depthwise4", "depthwise5", "match")
    for index, block in enumerate(blocks, start=STEM_BLOCKS):
        for parent in block.parents:
            for part in parts:
                if f"block{index}_from{parent}_{part}_conv" in ours:
                    yield f"block{index}_from{parent}_{part}"
    yield from (f"p{level}_out" for level in OUTPUT_LEVELS)


def _block_names(blocks: Sequence[Block], ours: dict, mobile: bool) -> Iterator[tuple[str, str]]:
    """Names of the blocks and their copies, with their kinds."""
    stem = _STEM_KINDS[blocks[0].kind]
    for index, kind in enumerate([*[stem] * STEM_BLOCKS, *(block.kind for block in blocks)]):
        if mobile:
            yield f"block{index}", kind
            continue
        copy = 1
        while any(name.startswith(f"block{index}_copy{copy}_") for name in ours):
            yield f"block{index}_copy{copy}", kind
            copy += 1


def _block_pairs(ours: dict, block, name: str, kind: str) -> list[tuple]:
    pairs = []
    for part, (conv, norm) in _BLOCK_PARTS[kind].items():
        if f"{name}_{part}_conv" in ours:
            pairs.append((ours[f"{name}_{part}_conv"], getattr(block, conv)))
            pairs.append((ours[f"{name}_{part}_bn"], getattr(block, norm)))
    for part, conv in _GATE.items():
        if f"{name}_{part}" in ours:
            pairs.append((ours[f"{name}_{part}"], getattr(block._squeeze_excitation, conv)))
    return pairs


def _reorder(values: list[np.ndarray], anchors: PyramidAnchors, ratios: Sequence, part: str) -> list[np.ndarray]:
    """Brings a prediction's last axis into our order.

    Theirs runs through the sizes and, for each, through the aspect ratios, which are width over height; ours through
    the ratios of height over width and, for each, through the sizes.
    """
    places = [list(ratios).index(1 / ratio) for ratio in anchors.aspect_ratios]
    *before, kernel, bias = values

    def order(x: np.ndarray) -> np.ndarray:
        x = x.reshape(*x.shape[:-1], len(anchors.sizes[0]), len(places), -1).swapaxes(-3, -2)[..., places, :, :]
        x = x[..., _BOX_ORDER] if part == "box" else x
        return x.reshape(*x.shape[:-3], -1)

    return [*before, order(kernel), order(bias)]


def _values(layer) -> list[np.ndarray]:
    return [np.asarray(value) for value in layer.get_weights()]


def _count(layer) -> int:
    """How many layers of its kind were made before: "conv2d_12" is 12, "conv2d" 0."""
    found = re.search(r"_(\d+)$", layer.name)
    return int(found[1]) if found else 0


def _assign(pairs: Sequence[tuple[keras.Layer, list[np.ndarray]]]) -> None:
    for layer, values in pairs:
        wanted = [tuple(weight.shape) for weight in layer.weights]
        if [value.shape for value in values] != wanted:
            raise WeightsError(
                f"Expected weights {wanted} for the layer {layer.name!r}, got {[value.shape for value in values]}. "
                "Build both networks with the same size and number of classes."
            )
    for layer, values in pairs:
        layer.set_weights(values)
