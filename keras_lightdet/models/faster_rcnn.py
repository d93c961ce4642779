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
from keras_lightdet.detection import ProposalObjective, RegionObjective, TwoStageDetector
from keras_lightdet.layers import MultilevelRoIAlign, fpn
from keras_lightdet.models.building import check_input_shape, check_variant, choose_arguments, load_backbone
from keras_lightdet.weights import load_weights

STRIDES, SIZES = (4, 8, 16, 32, 64), ((32,), (64,), (128,), (256,), (512,))  # of P2 to P6
BINS, SAMPLES = 7, 2
BACKBONE = "backbone"  # the backbone's name in the first network


@dataclass(frozen=True)
class Setting:
    """What differs between the two code bases whose results are published.

    Attributes:
        num_classes: torchvision counts COCO's 80 classes by their ids of 1 to 90, of which ten are never seen.
        train_proposals: Proposals of an image in training.
        rounded: Whether the shapes of anchors are whole pixels.
        aligned: Whether regions are moved by half a pixel of the map before they are sampled.
        beta: Where both box losses turn from square to absolute; 0 is the absolute error.
        batch_norm: See `backbones.freezing.freeze`.
    """

    num_classes: int
    train_proposals: int
    rounded: bool
    aligned: bool
    beta: float
    batch_norm: str


VARIANTS = {
    "torchvision": Setting(90, 2000, rounded=True, aligned=False, beta=1 / 9, batch_norm="frozen"),
    "mmdetection": Setting(80, 1000, rounded=False, aligned=True, beta=0.0, batch_norm="affine"),
}
DEFAULTS = {
    "input_shape": (800, 1280, 3),
    "depth": 50,
    "width": 256,
    "head_width": 1024,
    "trainable_stages": 3,
}


def FasterRCNN(  # noqa: N802 - builders are CapWords
    num_classes: int | None = None,
    input_shape: tuple[int, int, int] | None = None,
    *,
    variant: str | None = None,
    depth: int | None = None,
    weights: str | Path | None = None,
    weights_backbone: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    width: int | None = None,
    head_width: int | None = None,
    trainable_stages: int | None = None,
    batch_norm: str | None = None,
    select: SelectSpec | None = None,
    name: str | None = None,
) -> TwoStageDetector:
    """Builds Faster R-CNN with a feature pyramid (Lin et al. 2017, section 4 and 5.2).

    What is `None` comes from the record of `weights`, else from the variant. Both variants train from a backbone that
    knows ImageNet: `weights_backbone`, or `load_resnet(model.rpn.get_layer("backbone"), path)` for torchvision's
    file. To train from noise pass `trainable_stages=5, batch_norm="trained"`: frozen batch norms that have seen nothing
    normalize nothing.

    Differs from torchvision in one point: no box is predicted for the background, which is never read.

    Args:
        num_classes: Classes to tell apart, without the background; 90 (COCO's ids) for "torchvision", else 80.
        input_shape: `(height, width, 3)` in pixels, of any size; 800 by 1280.
        variant: "torchvision" or "mmdetection", whose settings are in `VARIANTS`; "torchvision".
        depth: Of the `ResNet`: 18, 34, 50 or 101; 50.
        weights: A `.weights.h5` of ours with its record, or its `https` address with `#sha256=`; `None` starts from
            noise. `convert.load_faster_rcnn` reads torchvision's files.
        weights_backbone: A `.weights.h5` of a classifier `ResNet` of the same depth with its record.
        class_names: Names in label order; "class 0", "class 1", .. where neither this nor `weights` tells.
        width: Channels of the pyramid; 256.
        head_width: Units of the second stage's two hidden layers; 1024.
        trainable_stages: Stages of the backbone that are trained, counted from the last: 3 leaves the stem and stage
            2 as they are.
        batch_norm: What of the backbone's batch norms is trained: "frozen" (nothing), "affine" (gamma and beta) or
            "trained" (all); that of the variant.
        select: How detections are chosen from the decoded boxes.
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
    given = {
        "num_classes": num_classes,
        "input_shape": input_shape,
        "variant": variant,
        "depth": depth,
        "width": width,
        "head_width": head_width,
        "trainable_stages": trainable_stages,
        "batch_norm": batch_norm,
    }
    if variant is not None:
        check_variant(variant, VARIANTS)
    published = VARIANTS[variant or "torchvision"]
    defaults = {"num_classes": published.num_classes, "batch_norm": published.batch_norm, **DEFAULTS}
    choice = choose_arguments(
        given,
        {"variant": "torchvision", **defaults},
        builder="FasterRCNN",
        weights=weights,
        class_names=class_names,
        weights_backbone=weights_backbone,
        free=("input_shape", "trainable_stages", "batch_norm"),
    )
    chosen = choice.arguments
    setting = VARIANTS[chosen["variant"]]
    check_input_shape(chosen["input_shape"])
    anchors = PyramidAnchors(STRIDES, SIZES, rounded=setting.rounded)
    detector = TwoStageDetector(
        _rpn_network(chosen, anchors.per_cell),
        _roi_network(chosen, setting.aligned),
        ProposalObjective(
            anchors,
            train=ProposalSpec(2000, setting.train_proposals),
            test=ProposalSpec(1000, 1000),
            beta=setting.beta,
        ),
        RegionObjective(beta=setting.beta),
        class_names=choice.class_names,
        input_size=chosen["input_shape"][:2],
        # Neither code base cuts before the suppression; a trained network has fewer pairs above the threshold.
        select=select or SelectSpec(0.05, 0.5, max_detections=100, pre_nms_top_k=2000),
        architecture=choice.architecture,
        name=name or "faster_rcnn",
    )
    if choice.weights is not None:
        load_weights(detector, choice.weights)
    if weights_backbone is not None:
        build = partial(ResNet, depth=chosen["depth"])
        load_backbone(detector.rpn.get_layer(BACKBONE), build, weights_backbone)
    return detector


def _rpn_network(chosen: Mapping, per_cell: int) -> keras.Model:
    """Backbone, pyramid, and one small network that slides over all of its levels."""
    images = keras.Input((None, None, 3), name="images")
    backbone = ResNet(depth=chosen["depth"], name=BACKBONE)
    freeze(backbone, trainable_stages=chosen["trainable_stages"], batch_norm=chosen["batch_norm"])
    pyramid = fpn(backbone(images), chosen["width"], extra_level=True)
    raw = _predict_anchors(pyramid, chosen["width"], per_cell)
    regions_see = {level: pyramid[level] for level in ("P2", "P3", "P4", "P5")}
    return keras.Model(images, {"features": regions_see, **raw}, name="rpn")


def _predict_anchors(pyramid: Mapping[str, keras.KerasTensor], width: int, per_cell: int) -> dict:
    """The same weights on every level (section 4.1): a logit and four deltas an anchor, level after level."""
    normal = keras.initializers.RandomNormal(stddev=0.01)

    def shared(filters: int, kernel_size: int, part: str, activation: str | None = None) -> layers.Layer:
        return layers.Conv2D(
            filters,
            kernel_size,
            padding="same",
            activation=activation,
            kernel_initializer=normal,
            name=f"rpn_{part}",
        )

    trunk = shared(width, 3, "conv", "relu")
    logit, box = shared(per_cell, 1, "object"), shared(4 * per_cell, 1, "box")
    logits, deltas = [], []
    for level, x in pyramid.items():
        seen, part = trunk(x), level.lower()
        logits.append(layers.Reshape((-1,), dtype="float32", name=f"objectness_{part}")(logit(seen)))
        deltas.append(layers.Reshape((-1, 4), dtype="float32", name=f"rpn_deltas_{part}")(box(seen)))
    return {
        "objectness": layers.Concatenate(axis=1, dtype="float32", name="objectness")(logits),
        "rpn_deltas": layers.Concatenate(axis=1, dtype="float32", name="rpn_deltas")(deltas),
    }


def _roi_network(chosen: Mapping, aligned: bool) -> keras.Model:
    """Each region from the level of its size, two hidden layers, classes, and a box for each class."""
    features = {level: keras.Input((None, None, chosen["width"]), name=level) for level in ("P2", "P3", "P4", "P5")}
    rois = keras.Input((None, 4), dtype="float32", name="rois")
    regions = MultilevelRoIAlign(BINS, sampling_ratio=SAMPLES, aligned=aligned, name="roi_align")(features, rois)
    outputs = _region_network(chosen["num_classes"], chosen["width"], chosen["head_width"])(regions)
    return keras.Model({"features": features, "rois": rois}, outputs, name="roi_head")


def _region_network(num_classes: int, width: int, head_width: int) -> keras.Model:
    normal = keras.initializers.RandomNormal
    regions = keras.Input((None, BINS, BINS, width), name="regions")
    x = layers.Reshape((-1, BINS * BINS * width), name="flatten")(regions)
    x = layers.Dense(head_width, activation="relu", name="hidden1")(x)
    x = layers.Dense(head_width, activation="relu", name="hidden2")(x)
    logits = layers.Dense(num_classes + 1, kernel_initializer=normal(stddev=0.01), name="regions_class")(x)
    deltas = layers.Dense(4 * num_classes, kernel_initializer=normal(stddev=0.001), name="regions_box_of_class")(x)
    deltas = layers.Reshape((-1, num_classes, 4), name="split_boxes")(deltas)
    return keras.Model(regions, {"class_logits": logits, "box_deltas": deltas}, name="region_network")
