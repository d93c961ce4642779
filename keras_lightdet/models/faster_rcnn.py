"""Faster R-CNN on a feature pyramid of a ResNet (Ren et al. 2015; Lin et al. 2017): the two-stage baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
from keras import layers

from keras_lightdet.backbones import ResNet
from keras_lightdet.backbones.freezing import freeze
from keras_lightdet.boxes import ProposalSpec, PyramidAnchors, SelectSpec
from keras_lightdet.builder import BACKBONE, DERIVED, builder
from keras_lightdet.detection import ProposalObjective, RegionObjective, TwoStageDetector
from keras_lightdet.layers import MultilevelRoIAlign, fpn
from keras_lightdet.types import InputShape, Tensors

STRIDES, SIZES = (4, 8, 16, 32, 64), ((32,), (64,), (128,), (256,), (512,))  # of P2 to P6
ROI_LEVELS = ("P2", "P3", "P4", "P5")
BINS, SAMPLING_RATIO = 7, 2
TEST_PROPOSALS = ProposalSpec(1000, 1000)
# No code base limits the candidates of NMS; a trained network has fewer pairs above the threshold.
SELECT = SelectSpec(0.05, 0.5, max_detections=100, pre_nms_top_k=2000)


@dataclass(frozen=True)
class Variant:
    """Settings in which the two code bases whose results are published differ."""

    num_classes: int  # torchvision counts COCO's 80 classes by their ids of 1 to 90, ten of which have no class
    train_proposals: int  # proposals of an image in training
    rounded: bool  # whether the shapes of anchors are rounded to whole pixels
    aligned: bool  # whether regions are shifted by half a pixel of the map before they are sampled
    beta: float  # where both box losses change from quadratic to absolute; 0 is the absolute error
    batch_norm: str


VARIANTS = {
    "torchvision": Variant(90, 2000, rounded=True, aligned=False, beta=1 / 9, batch_norm="frozen"),
    "mmdetection": Variant(80, 1000, rounded=False, aligned=True, beta=0.0, batch_norm="affine"),
}

# Backbone


def _backbone(depth: int, num_classes: int | None = None) -> keras.Model:
    return ResNet(depth=depth, num_classes=num_classes, name=BACKBONE)


# Neck: `layers.fpn`.

# Heads


def _rpn(pyramid: Mapping[str, keras.KerasTensor], width: int, per_cell: int) -> Tensors:
    """Predicts a logit and four deltas per anchor, level by level, by the same weights (section 4.1)."""
    normal = keras.initializers.RandomNormal(stddev=0.01)
    conv = partial(layers.Conv2D, padding="same", kernel_initializer=normal)
    hidden = conv(width, 3, activation="relu", name="rpn_conv")
    logit, box = conv(per_cell, 1, name="rpn_object"), conv(4 * per_cell, 1, name="rpn_box")
    logits, deltas = [], []
    for level, x in pyramid.items():
        x, suffix = hidden(x), level.lower()
        logits.append(layers.Reshape((-1,), dtype="float32", name=f"objectness_{suffix}")(logit(x)))
        deltas.append(layers.Reshape((-1, 4), dtype="float32", name=f"rpn_deltas_{suffix}")(box(x)))
    return {
        "objectness": layers.Concatenate(axis=1, dtype="float32", name="objectness")(logits),
        "rpn_deltas": layers.Concatenate(axis=1, dtype="float32", name="rpn_deltas")(deltas),
    }


def _region_network(num_classes: int, width: int, head_width: int) -> keras.Model:
    """Fast R-CNN's predictor: two hidden layers, classes, and a box for each class."""
    normal = keras.initializers.RandomNormal
    regions = keras.Input((None, BINS, BINS, width), name="regions")
    x = layers.Reshape((-1, BINS * BINS * width), name="flatten")(regions)
    x = layers.Dense(head_width, activation="relu", name="hidden1")(x)
    x = layers.Dense(head_width, activation="relu", name="hidden2")(x)
    logits = layers.Dense(num_classes + 1, kernel_initializer=normal(stddev=0.01), name="regions_class")(x)
    deltas = layers.Dense(4 * num_classes, kernel_initializer=normal(stddev=0.001), name="regions_box_of_class")(x)
    deltas = layers.Reshape((-1, num_classes, 4), name="split_boxes")(deltas)
    return keras.Model(regions, {"class_logits": logits, "box_deltas": deltas}, name="region_network")


# Model


@builder(VARIANTS, overridable=("input_shape", "trainable_stages", "batch_norm"), backbone=_backbone)
def FasterRCNN(  # noqa: N802 - builders are CapWords
    num_classes: int = DERIVED,
    input_shape: InputShape = (800, 1280, 3),
    *,
    variant: str = "torchvision",
    depth: int = 50,
    weights: str | Path | None = None,
    weights_backbone: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    width: int = 256,
    head_width: int = 1024,
    trainable_stages: int = 3,
    batch_norm: str = DERIVED,
    select: SelectSpec = SELECT,
    name: str = "faster_rcnn",
) -> TwoStageDetector:
    """Builds Faster R-CNN with a feature pyramid (Lin et al. 2017, sections 4 and 5.2).

    Arguments that are left out come from the record of `weights`, else from the variant. Both variants train from a
    backbone that is pretrained on ImageNet: `weights_backbone`, or
    `foreign_weights.load_resnet(model.rpn.get_layer("backbone"), path)` for torchvision's file. To train from scratch
    pass `trainable_stages=5, batch_norm="trained"`: frozen batch norms without statistics do not normalize.

    Differs from torchvision in one point: no box is predicted for the background, which is never read.

    Args:
        num_classes: Number of classes without the background; 90 (COCO's ids) for "torchvision", else 80.
        input_shape: `(height, width, 3)` in pixels, of any size.
        variant: "torchvision" or "mmdetection", whose settings are in `VARIANTS`.
        depth: Of the `ResNet`: 18, 34, 50 or 101.
        weights: A `.weights.h5` with its record, or its address, see `weights.resolve_weights`; random if left out.
            `foreign_weights.load_faster_rcnn` reads torchvision's files.
        weights_backbone: A `.weights.h5` of a classifier `ResNet` of the same depth with its record.
        class_names: Names in label order; those of `weights`, else "class 0", "class 1", ..
        width: Channels of the pyramid.
        head_width: Units of the second stage's two hidden layers.
        trainable_stages: Stages of the backbone that are trained, counted from the last: 3 freezes the stem and
            stage 2.
        batch_norm: What is trained of the backbone's batch norms: "frozen" (nothing), "affine" (gamma and beta) or
            "trained" (all); the variant's.
        select: How detections are selected from the decoded boxes.
        name: Name of the model.

    Returns:
        The detector; raw outputs `{"rois" [B, 1000, 4], "valid" [B, 1000], "class_logits" [B, 1000, num_classes + 1],
        "box_deltas" [B, 1000, num_classes, 4]}`.

    Raises:
        ValueError: If an argument is out of its range.
        WeightsError: If the weights are damaged, contradict an argument, or are of another backbone.

    Reference:
        Ren et al., "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks", NeurIPS 2015;
        Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017.
    """
    row = VARIANTS[variant]
    anchors = PyramidAnchors(STRIDES, SIZES, rounded=row.rounded)
    backbone = _backbone(depth)
    freeze(backbone, trainable_stages=trainable_stages, batch_norm=batch_norm)
    rpn = _rpn_network(backbone, width, anchors.per_cell)
    head = _roi_head(num_classes, width, head_width, row.aligned)
    train = ProposalSpec(2000, row.train_proposals)
    proposals = ProposalObjective(anchors, train=train, test=TEST_PROPOSALS, beta=row.beta)
    regions = RegionObjective(beta=row.beta)
    return TwoStageDetector(
        rpn, head, proposals, regions, class_names=class_names, input_size=input_shape[:2], select=select, name=name
    )


def _rpn_network(backbone: keras.Model, width: int, per_cell: int) -> keras.Model:
    images = keras.Input((None, None, 3), name="images")
    pyramid = fpn(backbone(images), width, extra_level=True)
    raw = _rpn(pyramid, width, per_cell)
    return keras.Model(images, {"features": {level: pyramid[level] for level in ROI_LEVELS}, **raw}, name="rpn")


def _roi_head(num_classes: int, width: int, head_width: int, aligned: bool) -> keras.Model:
    """Pools each region from the level of its size and classifies it."""
    features = {level: keras.Input((None, None, width), name=level) for level in ROI_LEVELS}
    rois = keras.Input((None, 4), dtype="float32", name="rois")
    roi_align = MultilevelRoIAlign(BINS, sampling_ratio=SAMPLING_RATIO, aligned=aligned, name="roi_align")
    outputs = _region_network(num_classes, width, head_width)(roi_align(features, rois))
    return keras.Model({"features": features, "rois": rois}, outputs, name="roi_head")
