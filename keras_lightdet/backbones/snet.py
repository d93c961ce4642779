"""SNet, the backbones of ThunderNet (Qin et al. 2019, section 3.1)."""

from collections.abc import Sequence

import keras

from keras_lightdet.backbones.imagenet import classifier, normalized_images, torch_conv, torch_stem
from keras_lightdet.backbones.shufflenet_v2 import shuffle_stages

# Channels of the stem, of stages 2 to 4, and of the last 1x1 convolution where there is one (table 1).
VARIANTS = {
    "snet49": {"stem": 24, "widths": (60, 120, 240), "last": 512},
    "snet146": {"stem": 24, "widths": (132, 264, 528), "last": None},
    "snet535": {"stem": 48, "widths": (248, 496, 992), "last": None},
}


def SNet(  # noqa: N802 - builders are CapWords
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    *,
    variant: str = "snet146",
    widths: Sequence[int] | None = None,
    unit: str = "split",
    kernel_size: int = 5,
    num_classes: int | None = None,
    name: str = "snet",
) -> keras.Model:
    """Builds SNet: ShuffleNetV2 with 5x5 depthwise kernels, which see about twice as far at 3 to 8 % more cost.

    The variants are named after their M multiply-adds at 224 pixels. Those counted here are 51, 161 and 535: all
    public sources agree on the widths of SNet146, and these cost 161 M; `widths=(126, 252, 504)` costs 148 M.

    Args:
        input_shape: Height and width in pixels, of any size, or `None`; 3 channels, 0..255 RGB.
        variant: "snet49", "snet146" or "snet535".
        widths: Channels of stages 2 to 4, even numbers; those of the variant if `None`.
        unit: "split" or the authors' "keep", see `ShuffleNetV2`.
        kernel_size: Side of the depthwise kernels; 3 for the paper's ablation.
        num_classes: `None` for features, else the classifier.
        name: Name of the model.

    Returns:
        A model: images `[B, H, W, 3]` -> `{"P3": [B, ceil(H/8), ceil(W/8), C3], "P4": .., "P5": ..}`, the paper's
        C3 to C5 (of "snet49" C5 is the last 1x1 convolution, 512 channels); or -> logits `[B, num_classes]`.

    Raises:
        ValueError: If an argument is none of the above.

    Reference:
        Qin et al., "ThunderNet: Towards Real-Time Generic Object Detection on Mobile Devices", ICCV 2019.
    """
    if variant not in VARIANTS:
        raise ValueError(f"Expected variant to be one of {sorted(VARIANTS)}, got {variant!r}.")
    sizes = VARIANTS[variant]
    images, x = normalized_images(input_shape, num_classes)
    x = torch_stem(x, sizes["stem"], 3)
    widths = tuple(widths or sizes["widths"])
    features = shuffle_stages(x, widths, unit=unit, kernel_size=kernel_size)
    if sizes["last"]:
        features["P5"] = torch_conv(features["P5"], sizes["last"], activation="relu", name="conv5")
    if num_classes is None:
        return keras.Model(images, features, name=name)
    options = {"variant": variant, "widths": widths, "unit": unit, "kernel_size": kernel_size}
    return classifier(images, features["P5"], num_classes, {"builder": "SNet", **options}, name=name)
