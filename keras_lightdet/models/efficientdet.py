"""EfficientDet: EfficientNet, a fusion of its pyramid's levels, and heads that all levels share (Tan et al. 2020)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras

from keras_lightdet.backbones import EfficientNet
from keras_lightdet.backbones.efficientnet import CONVENTIONS, NORM
from keras_lightdet.boxes import PyramidAnchors, SelectSpec
from keras_lightdet.detection import AnchorObjective, OneStageDetector
from keras_lightdet.layers import FUSIONS, dense_heads, fuse
from keras_lightdet.models.building import check_input_shape, check_variant, choose_arguments, load_backbone
from keras_lightdet.weights import load_weights

BACKBONE = "backbone"  # the backbone's name in the network
PER_OCTAVE, ASPECT_RATIOS = 3, (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Variant:
    """A row of the paper's table 1, as the released code has it, which differs from the formulas of section 4.

    Attributes:
        backbone: Of `EfficientNet`.
        size: Side of the network input in pixels.
        width: Channels of fusion and heads.
        cells: Of the fusion.
        head_repeats: Convolutions before each prediction.
        fusion: One of `layers.FUSIONS`.
        anchor_scale: Smallest anchor of a level over its stride.
        coarsest: The last level; the first is 3.
        drop_path_rate: See `EfficientNet`.
    """

    backbone: str
    size: int
    width: int
    cells: int
    head_repeats: int
    fusion: str = "bifpn_fast"
    anchor_scale: float = 4.0
    coarsest: int = 7
    drop_path_rate: float = 0.2


VARIANTS = {
    "d0": Variant("b0", 512, 64, 3, 3, drop_path_rate=0.0),
    "d1": Variant("b1", 640, 88, 4, 3),
    "d2": Variant("b2", 768, 112, 5, 3),
    "d3": Variant("b3", 896, 160, 6, 4),
    "d4": Variant("b4", 1024, 224, 7, 4),
    "d5": Variant("b5", 1280, 288, 7, 4),
    "d6": Variant("b6", 1280, 384, 8, 5, "bifpn_sum"),
    "d7": Variant("b6", 1536, 384, 8, 5, "bifpn_sum", anchor_scale=5.0),
    "d7x": Variant("b7", 1536, 384, 8, 5, "bifpn_sum", coarsest=8),
    "lite0": Variant("lite0", 320, 64, 3, 3, "bifpn_sum", anchor_scale=3.0),
    "lite1": Variant("lite1", 384, 88, 4, 3, "bifpn_sum", anchor_scale=3.0),
    "lite2": Variant("lite2", 448, 112, 5, 3, "bifpn_sum", anchor_scale=3.0),
    "lite3": Variant("lite3", 512, 160, 6, 4, "bifpn_sum"),
    "lite3x": Variant("lite3", 640, 200, 6, 4, "bifpn_sum", anchor_scale=3.0),
    "lite4": Variant("lite4", 640, 224, 7, 4, "bifpn_sum"),
}
DEFAULT_VARIANT = "d0"
NUM_CLASSES = 90  # COCO's classes by their ids of 1 to 90, of which ten are never seen


def EfficientDet(  # noqa: N802 - builders are CapWords
    num_classes: int | None = None,
    input_shape: tuple[int, int, int] | None = None,
    *,
    variant: str | None = None,
    weights: str | Path | None = None,
    weights_backbone: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    width: int | None = None,
    cells: int | None = None,
    head_repeats: int | None = None,
    fusion: str | None = None,
    anchor_scale: float | None = None,
    drop_path_rate: float | None = None,
    convention: str | None = None,
    select: SelectSpec | None = None,
    name: str | None = None,
) -> OneStageDetector:
    """Builds EfficientDet-D0 to D7, D7x, or one of the Lite models for phones.

    What is `None` comes from the record of `weights`, else from the variant. The order of layers is that of the
    released code: activation before a fusion's convolution, batch norm behind it.

    Args:
        num_classes: Classes to tell apart; 90, COCO's ids.
        input_shape: `(height, width, 3)` in pixels, of any size; the variant's square.
        variant: "d0" .. "d7", "d7x", "lite0" .. "lite4", "lite3x"; "d0".
        weights: A `.weights.h5` of ours with its record, or its `https` address with `#sha256=`; `None` starts from
            noise. `convert.load_efficientdet` reads those of the PyTorch package effdet.
        weights_backbone: The same of a classifier `EfficientNet` of the variant's size, to start training from.
        class_names: Names in label order; "class 0", "class 1", .. where neither this nor `weights` tells.
        width: Channels of fusion and heads.
        cells: Of the fusion.
        head_repeats: Convolutions of each head before its prediction.
        fusion: One of `layers.FUSIONS`, which the paper compares: "bifpn_fast", "bifpn_sum", "nas_fpn", ..
        anchor_scale: Smallest anchor of a level over its stride; smaller for smaller objects.
        drop_path_rate: See `EfficientNet`.
        convention: "keras" is the authors': TensorFlow's padding, and biases before batch norms, which the published
            numbers of parameters count. "torch" is that of effdet's networks without "tf_": PyTorch's padding, no such
            biases. "keras".
        select: How detections are chosen from the decoded boxes; else by Gaussian soft suppression, as the authors
            evaluate.
        name: Name of the model.

    Returns:
        The detector; raw outputs `{"box_deltas" [B, N, 4], "class_logits" [B, N, num_classes]}`.

    Raises:
        ValueError: If an argument is out of its range.
        WeightsError: If the weights are damaged or contradict an argument.

    Reference:
        Tan et al., "EfficientDet: Scalable and Efficient Object Detection", CVPR 2020.
    """
    if variant is not None:
        check_variant(variant, VARIANTS)
    published = VARIANTS[variant or DEFAULT_VARIANT]
    tunable = ("width", "cells", "head_repeats", "fusion", "anchor_scale", "drop_path_rate")
    given = {
        "num_classes": num_classes,
        "input_shape": input_shape,
        "variant": variant,
        "width": width,
        "cells": cells,
        "head_repeats": head_repeats,
        "fusion": fusion,
        "anchor_scale": anchor_scale,
        "drop_path_rate": drop_path_rate,
        "convention": convention,
    }
    defaults = {
        "num_classes": NUM_CLASSES,
        "input_shape": (published.size, published.size, 3),
        "variant": DEFAULT_VARIANT,
        "convention": "keras",
        **{key: getattr(published, key) for key in tunable},
    }
    choice = choose_arguments(
        given,
        defaults,
        builder="EfficientDet",
        weights=weights,
        class_names=class_names,
        free=("input_shape", "drop_path_rate"),
        weights_backbone=weights_backbone,
    )
    chosen = choice.arguments
    if chosen["fusion"] not in FUSIONS:
        raise ValueError(f"Expected fusion to be one of {sorted(FUSIONS)}, got {chosen['fusion']!r}.")
    check_input_shape(chosen["input_shape"])
    setting = VARIANTS[chosen["variant"]]
    levels = range(3, setting.coarsest + 1)
    anchors = PyramidAnchors.octaves(
        [2**level for level in levels],
        scale=chosen["anchor_scale"],
        per_octave=PER_OCTAVE,
        aspect_ratios=ASPECT_RATIOS,
        offset=0.5,
        fitted=True,
    )
    detector = OneStageDetector(
        _network(chosen, setting, [f"P{level}" for level in levels], anchors.per_cell),
        AnchorObjective(anchors),
        class_names=choice.class_names,
        input_size=chosen["input_shape"][:2],
        select=select or SelectSpec(0.001, 0.5, max_detections=100, pre_nms_top_k=1000, soft="gaussian"),
        architecture=choice.architecture,
        name=name or "efficientdet",
    )
    if weights_backbone is not None:
        load_backbone(
            detector.network.get_layer(BACKBONE),
            lambda num_classes: _backbone(chosen, setting, num_classes),
            weights_backbone,
        )
    if choice.weights is not None:
        load_weights(detector, choice.weights)
    return detector


def _network(chosen: Mapping, setting: Variant, levels: Sequence[str], per_cell: int) -> keras.Model:
    images = keras.Input((None, None, 3), name="images")
    activation = "relu6" if setting.backbone.startswith("lite") else "silu"
    # Fusion and heads keep the authors' batch norm in effdet's other networks, too.
    use_bias = chosen["convention"] == "keras"
    fusion = FUSIONS[chosen["fusion"]]
    pyramid = fuse(
        _backbone(chosen, setting)(images),
        fusion.graph(len(levels)),
        levels=levels,
        width=chosen["width"],
        repeats=chosen["cells"] if fusion.repeated else 1,
        method=fusion.method,
        activation=activation,
        norm=NORM,
        padding=CONVENTIONS[chosen["convention"]].padding,
        use_bias=use_bias,
        name="fusion",
    )
    raw = dense_heads(
        pyramid,
        chosen["num_classes"],
        per_cell,
        width=chosen["width"],
        repeats=chosen["head_repeats"],
        separable=True,
        activation=activation,
        norm=NORM,
        use_bias=use_bias,
    )
    return keras.Model(images, raw, name="network")


def _backbone(chosen: Mapping, setting: Variant, num_classes: int | None = None) -> keras.Model:
    options = {"drop_path_rate": chosen["drop_path_rate"], "convention": chosen["convention"]}
    return EfficientNet(variant=setting.backbone, **options, num_classes=num_classes, name=BACKBONE)
