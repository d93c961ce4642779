"""DFANet: one light backbone three times over, each working on what the one before found (Li et al. 2019)."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import keras
from keras import layers

from keras_lightdet.backbones import XceptionDFANet
from keras_lightdet.backbones.imagenet import normalized_images, torch_conv
from keras_lightdet.backbones.xception_dfanet import REPEATS, STAGES, WIDTHS, encode, fc_attention, stem
from keras_lightdet.layers import ResizeToMatch
from keras_lightdet.models.building import check_input_shape, check_variant, choose_arguments, load_backbone
from keras_lightdet.segmentation import SegmentationLoss, SegmentationModel, predict_pixels
from keras_lightdet.weights import load_weights

DECODER_WIDTH = 32
# Backbone and input, (height, width), of tables 4 and 5. B at half the height is our name, not the paper's.
VARIANTS = {
    "a": ("a", (1024, 1024)),
    "a_prime": ("a", (512, 1024)),
    "b": ("b", (1024, 1024)),
    "b_prime": ("b", (512, 1024)),
}
DEFAULTS = {"num_classes": 19, "variant": "a", "backbones": 3, "decoder": "full"}
DECODERS = ("full", "high", "none")
_BACKBONE = re.compile(r"^backbone\d+_")  # prefix of a layer's name
PLAIN_LOSS = SegmentationLoss(hard_threshold=None)


def DFANet(  # noqa: N802 - builders are CapWords
    num_classes: int | None = None,
    input_shape: tuple[int, int, int] | None = None,
    *,
    variant: str | None = None,
    weights: str | Path | None = None,
    weights_backbone: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    backbones: int | None = None,
    decoder: str | None = None,
    loss: SegmentationLoss | None = None,
    name: str | None = None,
) -> SegmentationModel:
    """Builds DFANet.

    The authors published no code: blocks and the decoder's kernels are the reading whose multiply-adds fit all rows of
    the paper but those of B without its low-level branch. The attention's weights pass a sigmoid, see `fc_attention`.
    What is `None` comes from the record of `weights`, else from the paper.

    Args:
        num_classes: Classes to tell apart; 19, those of Cityscapes.
        input_shape: `(height, width, 3)` in pixels, of any size; what the variant says.
        variant: "a", "a_prime", "b" or "b_prime": Xception A or B, at 1024 x 1024 or (prime) 512 x 1024; "a".
        weights: A `.weights.h5` of ours with its record, or its `https` address with `#sha256=`; `None` starts from
            noise.
        weights_backbone: A `.weights.h5` of a classifier `XceptionDFANet` with its record. As in the paper it goes
            into all three backbones, as far as shapes fit: the first convolutions of a stage of the later ones start
            from noise, and so does the attention's dense layer unless the classifier knows 1000 classes.
        class_names: Names in label order; "class 0", "class 1", .. where neither this nor `weights` tells.
        backbones: How many follow one another; 3 (table 3's ablation: 1 to 4).
        decoder: "full", "high" without the detail of the enc2 stages, or "none", which classifies the last attention
            map (table 4's ablation); "full".
        loss: See `SegmentationLoss`; plain cross-entropy.
        name: Name of the model.

    Returns:
        The segmenter; raw outputs `{"logits" [B, ceil(H/4), ceil(W/4), num_classes]}`, without decoder at the last
        attention map's size.

    Raises:
        ValueError: If an argument is out of its range.
        WeightsError: If the weights are damaged, contradict an argument, or are of another backbone.

    Reference:
        Li et al., "DFANet: Deep Feature Aggregation for Real-Time Semantic Segmentation", CVPR 2019.
    """
    given = {
        "num_classes": num_classes,
        "input_shape": input_shape,
        "variant": variant,
        "backbones": backbones,
        "decoder": decoder,
    }
    choice = choose_arguments(
        given, DEFAULTS, builder="DFANet", weights=weights, class_names=class_names, weights_backbone=weights_backbone
    )
    chosen = choice.arguments
    check_variant(chosen["variant"], VARIANTS)
    backbone, size = VARIANTS[chosen["variant"]]
    chosen["input_shape"] = chosen["input_shape"] or (*size, 3)
    check_input_shape(chosen["input_shape"])
    if chosen["backbones"] < 1:
        raise ValueError(f"Expected backbones to be 1 or more, got {chosen['backbones']!r}.")
    if chosen["decoder"] not in DECODERS:
        raise ValueError(f"Expected decoder to be one of {DECODERS}, got {chosen['decoder']!r}.")
    model = SegmentationModel(
        _network(chosen, backbone),
        class_names=choice.class_names,
        input_size=chosen["input_shape"][:2],
        loss=loss or PLAIN_LOSS,
        architecture=choice.architecture,
        name=name or "dfanet",
    )
    if choice.weights is not None:
        load_weights(model, choice.weights)
    if weights_backbone is not None:
        _load_backbones(model.network, backbone, weights_backbone)
    return model


def _network(chosen: dict, backbone: str) -> keras.Model:
    """Figure 3."""
    images, x = normalized_images((None, None, 3), None)
    x, before, encoders = stem(x), (), []
    for number in range(1, chosen["backbones"] + 1):
        *stages, attention = _backbone(x, before, backbone, name=f"backbone{number}")
        encoders.append((stages[0], attention))
        before, x = stages, ResizeToMatch(name=f"backbone{number}_enlarge")(attention, stages[0])
    decoder = chosen["decoder"]
    x = encoders[-1][1] if decoder == "none" else _decoder(encoders, detail=decoder == "full")
    return keras.Model(images, {"logits": predict_pixels(x, chosen["num_classes"], name="head")}, name="network")


def _backbone(
    x: keras.KerasTensor, before: Sequence[keras.KerasTensor], backbone: str, *, name: str
) -> tuple[keras.KerasTensor, ...]:
    """One backbone: enc2, enc3, enc4 and the attention; each stage also gets its like of the backbone before."""
    outputs = []
    for place, (stage, width, count) in enumerate(zip(STAGES, WIDTHS[backbone], REPEATS, strict=True)):
        if before:  # sub-stage aggregation, at the strides that the backbone before has reached a stage later
            pair = [before[place], x] if place == 0 else [x, before[place]]
            x = layers.Concatenate(name=f"{name}_{stage}_concat")(pair)
        x = encode(x, width, count, name=f"{name}_{stage}")
        outputs.append(x)
    return (*outputs, fc_attention(x, name=f"{name}_attention"))


def _decoder(encoders: Sequence[tuple[keras.KerasTensor, keras.KerasTensor]], *, detail: bool) -> keras.KerasTensor:
    """Sums the attention maps and the detail of the enc2 stages (section 3.3), at the size of the first enc2."""
    like = encoders[0][0]
    high = _sum([_project(a, like, f"decoder_high{n}") for n, (_, a) in enumerate(encoders, start=1)], "high")
    if not detail:
        return high
    low = _sum([_project(e, like, f"decoder_low{n}") for n, (e, _) in enumerate(encoders, start=1)], "low")
    low = torch_conv(low, DECODER_WIDTH, 3, activation="relu", name="decoder_low_fuse")
    return layers.Add(name="decoder_add")([low, high])


def _project(x: keras.KerasTensor, like: keras.KerasTensor, name: str) -> keras.KerasTensor:
    x = torch_conv(x, DECODER_WIDTH, activation="relu", name=name)
    return ResizeToMatch(name=f"{name}_enlarge")(x, like)


def _sum(maps: Sequence[keras.KerasTensor], kind: str) -> keras.KerasTensor:
    return layers.Add(name=f"decoder_{kind}")(maps) if len(maps) > 1 else maps[0]


def _load_backbones(network: keras.Model, backbone: str, weights: str | Path) -> None:
    """Gives every backbone the classifier's layers of its own shapes."""
    trunk = XceptionDFANet(variant=backbone, num_classes=1)
    trunk = keras.Model(trunk.input, trunk.get_layer("pool").output)
    classifier = load_backbone(trunk, partial(XceptionDFANet, variant=backbone), weights)
    given = {layer.name: layer for layer in classifier.layers}
    for layer in network.layers:
        name = _BACKBONE.sub("", layer.name)
        source = given.get("classifier" if name == "attention_fc" else name)
        if source and [w.shape for w in source.weights] == [w.shape for w in layer.weights]:
            layer.set_weights(source.get_weights())
