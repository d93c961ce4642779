"""MobileNetV2 (Sandler et al. 2018): inverted residuals whose narrow ends are linear."""

from typing import NamedTuple

import keras

from keras_lightdet.backbones.imagenet import MEAN, STD, classifier, normalized_images
from keras_lightdet.layers import NORM, TORCH_NORM, NormSpec, conv_bn_act, inverted_residual, round_width

STEM_WIDTH = 32
LAST_WIDTH = 1280  # never narrowed, as in the authors' code; only widths above 1 scale it
# Expansion, channels, blocks and stride of the first of them (table 2).
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
LEVELS = {2: "P2", 3: "P3", 5: "P4", 7: "P5"}  # the last stage at each stride
DROPOUT = 0.2


class Convention(NamedTuple):
    """Where implementations of one network differ: padding of strides, batch norm, and the images' scale."""

    padding: str
    norm: NormSpec
    mean: tuple[float, ...]
    std: tuple[float, ...]


CONVENTIONS = {
    "keras": Convention("same", NORM, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "torch": Convention("symmetric", TORCH_NORM, MEAN, STD),
}


def MobileNetV2(  # noqa: N802 - builders are CapWords
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
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
        num_classes: `None` for features; else the classifier, whose last 1x1 convolution the features lack.
        name: Name of the model.

    Returns:
        A model: images `[B, H, W, 3]` -> `{"P2": [B, ceil(H/4), ceil(W/4), C2], .., "P5": ..}`, the last linear
        bottlenecks at strides 4, 8, 16 and 32 (24, 32, 96 and 320 channels at width 1); or -> logits
        `[B, num_classes]`.

    Raises:
        ValueError: If an argument is none of the above.

    Reference:
        Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018.
    """
    if not width > 0:
        raise ValueError(f"Expected width to be above 0, got {width!r}.")
    if convention not in CONVENTIONS:
        raise ValueError(f"Expected convention to be one of {sorted(CONVENTIONS)}, got {convention!r}.")
    padding, norm, mean, std = CONVENTIONS[convention]
    form = {"padding": padding, "norm": norm}
    images, x = normalized_images(input_shape, num_classes, mean=mean, std=std)
    x = conv_bn_act(x, round_width(STEM_WIDTH * width), 3, 2, activation="relu6", **form, name="stem")
    features = {}
    for stage, (expansion, channels, count, strides) in enumerate(STAGES, start=1):
        for block in range(1, count + 1):
            x = inverted_residual(
                x,
                round_width(channels * width),
                strides=strides if block == 1 else 1,
                expansion=expansion,
                activation="relu6",
                **form,
                name=f"stage{stage}_block{block}",
            )
        if stage in LEVELS:
            features[LEVELS[stage]] = x
    if num_classes is None:
        return keras.Model(images, features, name=name)
    x = conv_bn_act(x, round_width(LAST_WIDTH * max(1.0, width)), activation="relu6", **form, name="last")
    architecture = {"builder": "MobileNetV2", "width": width, "convention": convention}
    return classifier(images, x, num_classes, architecture, dropout=DROPOUT, name=name)
