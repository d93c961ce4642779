"""Light-Head R-CNN: a thin map by large separable convolutions, and a light second stage (Li et al. 2017)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
from keras import layers

from keras_lightdet.backbones import ResNet, XceptionLight
from keras_lightdet.boxes import OhemSpec, ProposalSpec, PyramidAnchors, SampleSpec, SelectSpec
from keras_lightdet.builder import BACKBONE, builder
from keras_lightdet.detection import ProposalObjective, RegionObjective, TwoStageDetector
from keras_lightdet.layers import BINS, large_separable_conv, light_head, predict_anchors
from keras_lightdet.types import InputShape

KERNEL_SIZE = 15  # of the large separable convolution (section 3.2)
CHANNELS_PER_BIN = 10  # 10 * 7 * 7 = 490 channels
ANCHORS = PyramidAnchors(strides=(16,), sizes=((32, 64, 128, 256, 512),), aspect_ratios=(0.5, 1.0, 2.0))
TRAIN_PROPOSALS = ProposalSpec(12000, 2000)
TEST_PROPOSALS = ProposalSpec(6000, 1000)
SAMPLE = OhemSpec(256, joint=True)
SELECT = SelectSpec(iou_threshold=0.5)
BOX_WEIGHT = 2.0  # of the second stage (section 4)


@dataclass(frozen=True)
class Variant:
    """A setting of the paper (sections 3.1 and 3.3)."""

    rpn_width: int  # channels of the RPN's 3x3 convolution on C4
    thin_width: int  # channels between the two halves of the large separable convolution on C5
    thin_stride: int  # stride of C5 and of the thin map, which regions are pooled from


VARIANTS = {"s": Variant(256, 64, 32), "l": Variant(512, 256, 16)}

# Backbone


def _backbone(variant: str, num_classes: int | None = None) -> keras.Model:
    if variant == "s":
        return XceptionLight(num_classes=num_classes, name=BACKBONE)
    # Pretrained classifiers have no dilation; their weights have the same shapes.
    return ResNet(depth=101, dilate_last=num_classes is None, num_classes=num_classes, name=BACKBONE)


# Neck: the thin map, `layers.large_separable_conv` on C5.

# Heads: the RPN on C4; the R-CNN subnet is `layers.light_head`.


def _rpn(c4: keras.KerasTensor, width: int) -> dict[str, keras.KerasTensor]:
    normal = keras.initializers.RandomNormal(stddev=0.01)
    x = layers.Conv2D(width, 3, padding="same", activation="relu", kernel_initializer=normal, name="rpn_trunk")(c4)
    return predict_anchors(x, ANCHORS.per_cell, name="rpn")


# Model


@builder(VARIANTS, backbone=_backbone)
def LightHeadRCNN(  # noqa: N802 - builders are CapWords
    num_classes: int = 80,
    input_shape: InputShape = (800, 1200, 3),
    *,
    variant: str = "s",
    weights: str | Path | None = None,
    weights_backbone: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    per_class_boxes: bool = False,
    head_width: int = 2048,
    sample: SampleSpec | OhemSpec = SAMPLE,
    select: SelectSpec = SELECT,
    name: str = "light_head_rcnn",
) -> TwoStageDetector:
    """Builds Light-Head R-CNN, a two-stage detector.

    Arguments that are left out come from the record of `weights`, else from the paper; settings of training that it
    does not state are those of the authors' code for setting L. That code drops anchors that cross the image's border
    in training; here they are clipped and used.

    Args:
        num_classes: Number of classes.
        input_shape: `(height, width, 3)` in pixels, of any size.
        variant: "s" is XceptionLight, with regions pooled at stride 32; "l" is ResNet-101, whose last stage is dilated,
            with regions pooled at stride 16. Proposals come from stride 16 in both.
        weights: A `.weights.h5` with its record, or its address, see `weights.resolve_weights`; random if left out.
        weights_backbone: A `.weights.h5` of a classifier `XceptionLight()` or `ResNet(depth=101)` with its record,
            from which the paper's training starts.
        class_names: Names in label order; those of `weights`, else "class 0", "class 1", ..
        per_class_boxes: Whether each class has a box of its own, as in the authors' code; the paper shares one.
        head_width: Units of the second stage.
        sample: Which regions the second stage is trained on: those of the highest loss, 256 times the batch, in any
            image of the batch.
        select: How detections are selected from the decoded boxes.
        name: Name of the model.

    Returns:
        The detector; raw outputs `{"rois" [B, 1000, 4], "valid" [B, 1000], "class_logits" [B, 1000, num_classes + 1],
        "box_deltas" [B, 1000, 4] or [B, 1000, num_classes, 4]}`.

    Raises:
        ValueError: If an argument is out of its range.
        WeightsError: If the weights are damaged, contradict an argument, or are of another backbone.

    Reference:
        Li et al., "Light-Head R-CNN: In Defense of Two-Stage Object Detector", 2017.
    """
    head = light_head(
        num_classes,
        width=head_width,
        channels_per_bin=CHANNELS_PER_BIN,
        stride=VARIANTS[variant].thin_stride,
        per_class_boxes=per_class_boxes,
    )
    rpn = _rpn_network(variant)
    proposals = ProposalObjective(ANCHORS, train=TRAIN_PROPOSALS, test=TEST_PROPOSALS)
    regions = RegionObjective(sample=sample, box_weight=BOX_WEIGHT)
    return TwoStageDetector(
        rpn, head, proposals, regions, class_names=class_names, input_size=input_shape[:2], select=select, name=name
    )


def _rpn_network(variant: str) -> keras.Model:
    """Figures 2 and 3: the backbone, proposals from C4, the thin map from C5."""
    row = VARIANTS[variant]
    images = keras.Input((None, None, 3), name="images")
    features = _backbone(variant)(images)
    raw = _rpn(features["P4"], row.rpn_width)
    channels = CHANNELS_PER_BIN * BINS**2
    thin = large_separable_conv(features["P5"], row.thin_width, channels, KERNEL_SIZE, activation="relu", name="thin")
    return keras.Model(images, {"features": thin, **raw}, name="rpn")
