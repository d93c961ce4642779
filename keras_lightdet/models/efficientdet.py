"""EfficientDet: EfficientNet, a fusion of its pyramid's levels, and heads that all levels share (Tan et al. 2020)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras

from keras_lightdet.backbones import EfficientNet
from keras_lightdet.backbones.efficientnet import CONVENTIONS, NORM
from keras_lightdet.boxes import PyramidAnchors, SelectSpec
from keras_lightdet.builder import BACKBONE, DERIVED, builder, check_choice
from keras_lightdet.detection import AnchorObjective, OneStageDetector
from keras_lightdet.layers import FUSIONS, dense_heads, fuse
from keras_lightdet.types import InputShape, Tensors

NUM_CLASSES = 90  # COCO's ids are 1 to 90, ten of which have no class
FINEST = 3  # level of the largest map
PER_OCTAVE, ASPECT_RATIOS = 3, (0.5, 1.0, 2.0)
SELECT = SelectSpec(0.001, 0.5, max_detections=100, pre_nms_top_k=1000, soft_nms="gaussian")


@dataclass(frozen=True)
class Variant:
    """A row of the paper's table 1 by the released code, which differs from the formulas of section 4."""

    backbone: str  # variant of `EfficientNet`
    input_shape: InputShape
    width: int
    cells: int
    head_repeats: int
    fusion: str = "bifpn_fast"
    anchor_scale: float = 4.0
    coarsest: int = 7  # level of the smallest map
    drop_path_rate: float = 0.2


VARIANTS = {
    "d0": Variant("b0", (512, 512, 3), 64, 3, 3, drop_path_rate=0.0),
    "d1": Variant("b1", (640, 640, 3), 88, 4, 3),
    "d2": Variant("b2", (768, 768, 3), 112, 5, 3),
    "d3": Variant("b3", (896, 896, 3), 160, 6, 4),
    "d4": Variant("b4", (1024, 1024, 3), 224, 7, 4),
    "d5": Variant("b5", (1280, 1280, 3), 288, 7, 4),
    "d6": Variant("b6", (1280, 1280, 3), 384, 8, 5, "bifpn_sum"),
    "d7": Variant("b6", (1536, 1536, 3), 384, 8, 5, "bifpn_sum", anchor_scale=5.0),
    "d7x": Variant("b7", (1536, 1536, 3), 384, 8, 5, "bifpn_sum", coarsest=8),
    "lite0": Variant("lite0", (320, 320, 3), 64, 3, 3, "bifpn_sum", anchor_scale=3.0),
    "lite1": Variant("lite1", (384, 384, 3), 88, 4, 3, "bifpn_sum", anchor_scale=3.0),
    "lite2": Variant("lite2", (448, 448, 3), 112, 5, 3, "bifpn_sum", anchor_scale=3.0),
    "lite3": Variant("lite3", (512, 512, 3), 160, 6, 4, "bifpn_sum"),
    "lite3x": Variant("lite3", (640, 640, 3), 200, 6, 4, "bifpn_sum", anchor_scale=3.0),
    "lite4": Variant("lite4", (640, 640, 3), 224, 7, 4, "bifpn_sum"),
}

# Backbone


def _backbone(variant: str, drop_path_rate: float, convention: str, num_classes: int | None = None) -> keras.Model:
    return EfficientNet(
        variant=VARIANTS[variant].backbone,
        drop_path_rate=drop_path_rate,
        convention=convention,
        num_classes=num_classes,
        name=BACKBONE,
    )


# Neck


def _fusion(features: Tensors, variant: str, *, width: int, cells: int, fusion: str, convention: str) -> Tensors:
    """BiFPN (section 3), or another fusion of the levels that the paper compares."""
    levels = [f"P{level}" for level in range(FINEST, VARIANTS[variant].coarsest + 1)]
    return fuse(
        features,
        FUSIONS[fusion].graph(len(levels)),
        levels=levels,
        width=width,
        repeats=cells if FUSIONS[fusion].repeated else 1,
        method=FUSIONS[fusion].method,
        activation=_activation(variant),
        norm=NORM,  # effdet's "torch" networks, too, have the authors' batch norm here
        padding=CONVENTIONS[convention].padding,
        use_bias=convention == "keras",
        name="fusion",
    )


def _activation(variant: str) -> str:
    return "relu6" if VARIANTS[variant].backbone.startswith("lite") else "silu"


# Heads: class and box prediction networks, see `layers.dense_heads`.


def _anchors(variant: str, scale: float) -> PyramidAnchors:
    strides = [2**level for level in range(FINEST, VARIANTS[variant].coarsest + 1)]
    return PyramidAnchors.octaves(
        strides, scale=scale, per_octave=PER_OCTAVE, aspect_ratios=ASPECT_RATIOS, offset=0.5, fitted=True
    )


# Model


@builder(VARIANTS, overridable=("input_shape", "drop_path_rate"), backbone=_backbone)
def EfficientDet(  # noqa: N802 - builders are CapWords
    num_classes: int = NUM_CLASSES,
    input_shape: InputShape = DERIVED,
    *,
    variant: str = "d0",
    weights: str | Path | None = None,
    weights_backbone: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    width: int = DERIVED,
    cells: int = DERIVED,
    head_repeats: int = DERIVED,
    fusion: str = DERIVED,
    anchor_scale: float = DERIVED,
    drop_path_rate: float = DERIVED,
    convention: str = "keras",
    select: SelectSpec = SELECT,
    name: str = "efficientdet",
) -> OneStageDetector:
    """Builds EfficientDet-D0 to D7, D7x, or one of the Lite models for phones.

    Arguments that are left out come from the record of `weights`, else from the variant, see `VARIANTS`. The order of
    layers is that of the released code: the activation before a fusion's convolution, batch norm after it.

    Args:
        num_classes: Number of classes.
        input_shape: `(height, width, 3)` in pixels, of any size; the variant's square.
        variant: "d0" .. "d7", "d7x", "lite0" .. "lite4", "lite3x".
        weights: A `.weights.h5` with its record, or its address, see `weights.resolve_weights`; random if left out.
            `foreign_weights.load_efficientdet` reads those of the PyTorch package effdet.
        weights_backbone: The same of a classifier `EfficientNet` of the variant's size, to start training from.
        class_names: Names in label order; those of `weights`, else "class 0", "class 1", ..
        width: Channels of fusion and heads.
        cells: Repeats of the fusion's cell.
        head_repeats: Convolutions of each head before its prediction.
        fusion: One of `layers.FUSIONS`, which the paper compares: "bifpn_fast", "bifpn_sum", "nas_fpn", ..
        anchor_scale: Smallest anchor of a level over its stride; smaller for smaller objects.
        drop_path_rate: See `EfficientNet`.
        convention: "keras" is the authors': TensorFlow's padding, and biases before batch norms, which the published
            numbers of parameters include. "torch" is that of effdet's networks without "tf_": PyTorch's padding, no
            such biases.
        select: How detections are selected from the decoded boxes; by Gaussian Soft-NMS, as the authors evaluate.
        name: Name of the model.

    Returns:
        The detector; raw outputs `{"box_deltas" [B, N, 4], "class_logits" [B, N, num_classes]}`.

    Raises:
        ValueError: If an argument is out of its range.
        WeightsError: If the weights are damaged, contradict an argument, or are of another backbone.

    Reference:
        Tan et al., "EfficientDet: Scalable and Efficient Object Detection", CVPR 2020.
    """
    check_choice("fusion", fusion, FUSIONS)
    anchors = _anchors(variant, anchor_scale)
    images = keras.Input((None, None, 3), name="images")
    features = _backbone(variant, drop_path_rate, convention)(images)
    pyramid = _fusion(features, variant, width=width, cells=cells, fusion=fusion, convention=convention)
    raw = dense_heads(
        pyramid,
        num_classes,
        anchors.per_cell,
        width=width,
        repeats=head_repeats,
        separable=True,
        activation=_activation(variant),
        norm=NORM,
        use_bias=convention == "keras",
    )
    network, objective = keras.Model(images, raw, name="network"), AnchorObjective(anchors)
    return OneStageDetector(
        network, objective, class_names=class_names, input_size=input_shape[:2], select=select, name=name
    )
