"""Light-Head R-CNN: a thin map by large separable convolutions, and a light second stage (Li et al. 2017)."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import keras
from keras import layers

from keras_lightdet.backbones import ResNet, XceptionLight
from keras_lightdet.boxes import OhemSpec, ProposalSpec, PyramidAnchors, SampleSpec, SelectSpec
from keras_lightdet.detection import ProposalObjective, RegionObjective, TwoStageDetector
from keras_lightdet.layers import BINS, large_separable_conv, light_head, predict_anchors
from keras_lightdet.models.building import check_input_shape, check_variant, choose_arguments, load_backbone
from keras_lightdet.weights import load_weights

# Both read proposals from C4 and regions from C5, which keeps C4's stride in setting L alone (sections 3.1 and 3.3).
VARIANTS = {
    "s": {"build": XceptionLight, "rpn_width": 256, "thin_width": 64, "thin_stride": 32},
    "l": {"build": partial(ResNet, depth=101), "rpn_width": 512, "thin_width": 256, "thin_stride": 16},
}
KERNEL_SIZE = 15  # of the large separable convolution (section 3.2)
CHANNELS_PER_BIN = 10  # 10 * 7 * 7 = 490 channels
ANCHORS = PyramidAnchors(strides=(16,), sizes=((32, 64, 128, 256, 512),), aspect_ratios=(0.5, 1.0, 2.0))
TRAIN_PROPOSALS = ProposalSpec(12000, 2000)
TEST_PROPOSALS = ProposalSpec(6000, 1000)
HARDEST = OhemSpec(256, joint=True)
BOX_WEIGHT = 2.0  # of the second stage (section 4)
DEFAULTS = {
    "num_classes": 80,
    "input_shape": (800, 1200, 3),
    "variant": "s",
    "per_class_boxes": False,
    "head_width": 2048,
}


def LightHeadRCNN(  # noqa: N802 - builders are CapWords
    num_classes: int | None = None,
    input_shape: tuple[int, int, int] | None = None,
    *,
    variant: str | None = None,
    weights: str | Path | None = None,
    weights_backbone: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    per_class_boxes: bool | None = None,
    head_width: int | None = None,
    sample: SampleSpec | OhemSpec | None = None,
    select: SelectSpec | None = None,
    name: str | None = None,
) -> TwoStageDetector:
    """Builds Light-Head R-CNN, a two-stage detector.

    What is `None` comes from the record of `weights`, else from the paper; numbers of training that the text leaves
    open are those of the authors' code for setting L. That code leaves out anchors that cross the image's border in
    training; here they take part, clipped.

    Args:
        num_classes: Classes to tell apart; 80.
        input_shape: `(height, width, 3)` in pixels, of any size; 800 x 1200.
        variant: "s" is XceptionLight, with regions read at stride 32; "l" is ResNet-101, whose last stage is dilated,
            with regions read at stride 16; "s". Proposals come from stride 16 in both.
        weights: A `.weights.h5` of ours with its record, or its `https` address with `#sha256=`; `None` starts from
            noise.
        weights_backbone: A `.weights.h5` of a classifier with its record, `XceptionLight()` or `ResNet(depth=101)`:
            the start of the paper's own training.
        class_names: Names in label order; "class 0", "class 1", .. where neither this nor `weights` tells.
        per_class_boxes: Whether each class has a box of its own, as in the authors' code; the paper shares one.
        head_width: Units of the second stage; 2048.
        sample: Which regions the second stage is trained on: the hardest, 256 times the batch, wherever they are.
        select: How detections are chosen from the decoded boxes; overlaps above 0.5 are suppressed.
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
    given = {
        "num_classes": num_classes,
        "input_shape": input_shape,
        "variant": variant,
        "per_class_boxes": per_class_boxes,
        "head_width": head_width,
    }
    choice = choose_arguments(
        given,
        DEFAULTS,
        builder="LightHeadRCNN",
        weights=weights,
        class_names=class_names,
        weights_backbone=weights_backbone,
    )
    chosen = choice.arguments
    check_variant(chosen["variant"], VARIANTS)
    check_input_shape(chosen["input_shape"])
    sizes = VARIANTS[chosen["variant"]]
    head = light_head(
        chosen["num_classes"],
        width=chosen["head_width"],
        channels_per_bin=CHANNELS_PER_BIN,
        stride=sizes["thin_stride"],
        per_class_boxes=chosen["per_class_boxes"],
    )
    detector = TwoStageDetector(
        _rpn_network(sizes),
        head,
        ProposalObjective(ANCHORS, train=TRAIN_PROPOSALS, test=TEST_PROPOSALS),
        RegionObjective(sample=sample or HARDEST, box_weight=BOX_WEIGHT),
        class_names=choice.class_names,
        input_size=chosen["input_shape"][:2],
        select=select or SelectSpec(iou_threshold=0.5),
        architecture=choice.architecture,
        name=name or "light_head_rcnn",
    )
    if choice.weights is not None:
        load_weights(detector, choice.weights)
    if weights_backbone is not None:
        load_backbone(detector.rpn.get_layer("backbone"), sizes["build"], weights_backbone)
    return detector


def _rpn_network(sizes: dict) -> keras.Model:
    """The backbone, proposals from C4, the thin map from C5 (figures 2 and 3)."""
    images = keras.Input((None, None, 3), name="images")
    dilation = {"dilate_last": True} if sizes["thin_stride"] == 16 else {}
    features = sizes["build"](**dilation, name="backbone")(images)
    normal = keras.initializers.RandomNormal(stddev=0.01)
    trunk = layers.Conv2D(
        sizes["rpn_width"], 3, padding="same", activation="relu", kernel_initializer=normal, name="rpn_trunk"
    )(features["P4"])
    raw = predict_anchors(trunk, ANCHORS.per_cell, name="rpn")
    thin = large_separable_conv(
        features["P5"],
        sizes["thin_width"],
        CHANNELS_PER_BIN * BINS**2,
        KERNEL_SIZE,
        activation="relu",
        name="thin",
    )
    return keras.Model(images, {"features": thin, **raw}, name="rpn")
