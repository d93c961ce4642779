"""DFANet: one light backbone three times in a row, each refining the output of the one before (Li et al. 2019)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
from keras import layers

from keras_lightdet.backbones import XceptionDFANet, xception_dfanet
from keras_lightdet.backbones.imagenet import add_stage, normalized_images, torch_conv
from keras_lightdet.backbones.xception_dfanet import REPEATS, STAGES, block, fc_attention, stem
from keras_lightdet.builder import DERIVED, builder, check_choice
from keras_lightdet.classification.model import HEAD
from keras_lightdet.layers import ResizeToMatch
from keras_lightdet.segmentation import SegmentationLoss, SegmentationModel, predict_pixels
from keras_lightdet.types import InputShape

DECODER_WIDTH = 32
DECODERS = ("full", "high", "none")
LOSS = SegmentationLoss(ohem_threshold=None)
_PREFIX = re.compile(r"^backbone\d+_")  # of a layer's name


@dataclass(frozen=True)
class Variant:
    """A row of tables 4 and 5: the variant of `XceptionDFANet` and the input, `(height, width, 3)` in pixels."""

    backbone: str
    input_shape: InputShape


VARIANTS = {
    "a": Variant("a", (1024, 1024, 3)),
    "a_prime": Variant("a", (512, 1024, 3)),
    "b": Variant("b", (1024, 1024, 3)),
    "b_prime": Variant("b", (512, 1024, 3)),  # not in the paper
}

# Backbones


def _backbone(
    x: keras.KerasTensor, previous: Sequence[keras.KerasTensor], variant: str, *, name: str
) -> tuple[list[keras.KerasTensor], keras.KerasTensor]:
    """Returns enc2, enc3 and enc4, each also fed with the same stage of the backbone before, and the attention map."""
    stages = []
    widths = xception_dfanet.VARIANTS[VARIANTS[variant].backbone].widths
    for index, (stage, width, count) in enumerate(zip(STAGES, widths, REPEATS, strict=True)):
        if previous:  # sub-stage aggregation: the stage before in this backbone has the same stride
            pair = [previous[index], x] if index == 0 else [x, previous[index]]
            x = layers.Concatenate(name=f"{name}_{stage}_concat")(pair)
        x = add_stage(x, block, width, count, name=f"{name}_{stage}")
        stages.append(x)
    return stages, fc_attention(x, name=f"{name}_attention")


def _classifier(variant: str, num_classes: int) -> keras.Model:
    return XceptionDFANet(variant=VARIANTS[variant].backbone, num_classes=num_classes)


def _copy_backbones(classifier: keras.Model, model: SegmentationModel) -> None:
    """Copies the classifier's layers into every backbone, where their shapes agree."""
    sources = {layer.name: layer for layer in classifier.layers}
    for layer in model.network.layers:
        name = _PREFIX.sub("", layer.name)
        source = sources.get(HEAD if name == "attention_fc" else name)
        if source and [weight.shape for weight in source.weights] == [weight.shape for weight in layer.weights]:
            layer.set_weights(source.get_weights())


# Neck: decoder


def _decoder(
    stages: Sequence[keras.KerasTensor], attentions: Sequence[keras.KerasTensor], *, detail: bool
) -> keras.KerasTensor:
    """Sums the attention maps and the enc2 stages' detail at the size of the first enc2 (section 3.3)."""
    high = _project_and_sum(attentions, stages[0], name="decoder_high")
    if not detail:
        return high
    low = _project_and_sum(stages, stages[0], name="decoder_low")
    low = torch_conv(low, DECODER_WIDTH, 3, activation="relu", name="decoder_low_fuse")
    return layers.Add(name="decoder_add")([low, high])


def _project_and_sum(maps: Sequence[keras.KerasTensor], target: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    """Reduces the maps by 1x1 convolutions, resizes them to the target's size and sums them."""
    resized = []
    for number, x in enumerate(maps, start=1):
        x = torch_conv(x, DECODER_WIDTH, activation="relu", name=f"{name}{number}")
        resized.append(ResizeToMatch(name=f"{name}{number}_upsample")(x, target))
    return layers.Add(name=name)(resized) if len(resized) > 1 else resized[0]


# Head: `segmentation.predict_pixels`.

# Model


@builder(VARIANTS, backbone=_classifier, copy_backbone=_copy_backbones)
def DFANet(  # noqa: N802 - builders are CapWords
    num_classes: int = 19,
    input_shape: InputShape = DERIVED,
    *,
    variant: str = "a",
    weights: str | Path | None = None,
    weights_backbone: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    backbones: int = 3,
    decoder: str = "full",
    loss: SegmentationLoss = LOSS,
    name: str = "dfanet",
) -> SegmentationModel:
    """Builds DFANet.

    The authors published no code: blocks and the decoder's kernels are the reading whose multiply-adds fit all rows of
    the paper but those of B without its low-level branch. The attention's weights pass a sigmoid, see `fc_attention`.
    Arguments that are left out come from the record of `weights`, else from the variant.

    Args:
        num_classes: Number of classes; 19 are those of Cityscapes.
        input_shape: `(height, width, 3)` in pixels, of any size; the variant's.
        variant: "a", "a_prime", "b" or "b_prime": Xception A or B, at 1024 x 1024 or (prime) 512 x 1024.
        weights: A `.weights.h5` with its record, or its address, see `weights.resolve_weights`; random if left out.
        weights_backbone: A `.weights.h5` of a classifier `XceptionDFANet` with its record. As in the paper it
            initializes all three backbones, where shapes agree: not the first convolutions of a stage of the later
            ones, nor the attention's dense layer unless the classifier has 1000 classes.
        class_names: Names in label order; those of `weights`, else "class 0", "class 1", ..
        backbones: Number of backbones (table 3's ablation: 1 to 4).
        decoder: "full", "high" without the detail of the enc2 stages, or "none", which classifies the last attention
            map (table 4's ablation).
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
    if backbones < 1:
        raise ValueError(f"Expected backbones to be 1 or more, got {backbones!r}.")
    check_choice("decoder", decoder, DECODERS)
    images, x = normalized_images((None, None, 3))
    x = stem(x)
    stages: Sequence[keras.KerasTensor] = ()
    enc2, attentions = [], []
    for number in range(1, backbones + 1):
        stages, attention = _backbone(x, stages, variant, name=f"backbone{number}")
        enc2.append(stages[0])
        attentions.append(attention)
        x = ResizeToMatch(name=f"backbone{number}_upsample")(attention, stages[0])
    x = attentions[-1] if decoder == "none" else _decoder(enc2, attentions, detail=decoder == "full")
    network = keras.Model(images, {"logits": predict_pixels(x, num_classes, name="head")}, name="network")
    return SegmentationModel(network, class_names=class_names, input_size=input_shape[:2], loss=loss, name=name)
