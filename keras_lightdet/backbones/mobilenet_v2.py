"""MobileNetV2 (Sandler et al. 2018): inverted residuals with linear bottlenecks."""

from dataclasses import replace
from functools import partial

import keras

from keras_lightdet.backbones.imagenet import MEAN, STD, TORCH, Convention, ImageShape, normalized_images
from keras_lightdet.backbones.residual_stages import Stage, residual_stages
from keras_lightdet.builder import backbone_builder, check_choice
from keras_lightdet.classification import Classifier, classification_head
from keras_lightdet.layers import NORM, conv_bn_act, inverted_residual, round_width

STEM_WIDTH = 32
LAST_WIDTH = 1280  # as in the authors' code, only widths above 1 scale it
STAGES = (  # table 2
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
)
LEVELS = {2: "P2", 3: "P3", 5: "P4", 7: "P5"}  # the last stage at each stride
VARIANTS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)  # the authors' widths; others can be built too
DROPOUT = 0.2
CONVENTIONS = {"keras": Convention("same", NORM), "torch": TORCH}
# Mean and standard deviation of the images; "keras" scales them to -1..1.
MEAN_AND_STD = {"keras": ((0.5,) * 3, (0.5,) * 3), "torch": (MEAN, STD)}


@backbone_builder()
def MobileNetV2(  # noqa: N802 - builders are CapWords
    input_shape: ImageShape = (None, None, 3),
    *,
    width: float = 1.0,
    convention: str = "keras",
    num_classes: int | None = None,
    name: str = "mobilenet_v2",
) -> keras.Model:
    """Builds MobileNetV2 of any width (section 4, table 2).

    Args:
        input_shape: Height and width in pixels, of any size, or `None`; 3 channels, 0..255 RGB.
        width: Factor of all channels, which are rounded to multiples of 8. The authors publish 0.35, 0.5, 0.75, 1.0,
            1.3 and 1.4.
        convention: "keras" is the authors': images scaled to -1..1, TensorFlow's padding. Use it for the weights
            of `keras.applications`. "torch" is torchvision's, for its weights. `keras_lightdet.foreign_weights` reads
            both.
        num_classes: `None` for features; else a `Classifier`, with one more 1x1 convolution.
        name: Name of the model.

    Returns:
        A model: images `[B, H, W, 3]` -> `{"P2": [B, ceil(H/4), ceil(W/4), C2], .., "P5": ..}`, the last linear
        bottlenecks at strides 4, 8, 16 and 32 (24, 32, 96 and 320 channels at width 1); or -> logits
        `[B, num_classes]`.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018.
    """
    if not width > 0:
        raise ValueError(f"Expected width to be above 0, got {width!r}.")
    check_choice("convention", convention, CONVENTIONS)
    (padding, norm), (mean, std) = CONVENTIONS[convention], MEAN_AND_STD[convention]
    conv = partial(conv_bn_act, activation="relu6", padding=padding, norm=norm)
    block = partial(inverted_residual, activation="relu6", padding=padding, norm=norm)

    images, x = normalized_images(input_shape, mean, std)
    x = conv(x, round_width(STEM_WIDTH * width), 3, 2, name="stem")
    stages = [replace(stage, width=round_width(stage.width * width)) for stage in STAGES]
    features = residual_stages(x, stages, LEVELS, block=block)
    if num_classes is None:
        return keras.Model(images, features, name=name)
    x = conv(features["P5"], round_width(LAST_WIDTH * max(1.0, width)), name="last")
    return Classifier(images, classification_head(x, num_classes, dropout=DROPOUT), name)
