"""SNet, the backbones of ThunderNet (Qin et al. 2019, section 3.1)."""

from collections.abc import Sequence
from dataclasses import dataclass

import keras

from keras_lightdet.backbones.imagenet import ImageShape, normalized_images, torch_conv, torch_stem
from keras_lightdet.backbones.shufflenet_v2 import shuffle_stages
from keras_lightdet.builder import DERIVED, backbone_builder
from keras_lightdet.classification import Classifier, classification_head


@dataclass(frozen=True)
class Variant:
    """A size of table 1."""

    stem_width: int  # channels of conv1
    widths: tuple[int, int, int]  # channels of stages 2 to 4
    last_width: int | None = None  # channels of conv5, if there is one


VARIANTS = {
    "snet49": Variant(24, (60, 120, 240), 512),
    "snet146": Variant(24, (132, 264, 528)),
    "snet535": Variant(48, (248, 496, 992)),
}


@backbone_builder(VARIANTS)
def SNet(  # noqa: N802 - builders are CapWords
    input_shape: ImageShape = (None, None, 3),
    *,
    variant: str = "snet146",
    widths: Sequence[int] = DERIVED,
    unit: str = "split",
    kernel_size: int = 5,
    num_classes: int | None = None,
    name: str = "snet",
) -> keras.Model:
    """Builds SNet: ShuffleNetV2 with 5x5 depthwise kernels, which about double the receptive field at 3 to 8 % more
    cost.

    The variants are named after their M multiply-adds at 224 pixels. Those counted here are 51, 161 and 535: all
    public sources agree on the widths of SNet146, and these cost 161 M; `widths=(126, 252, 504)` costs 148 M.

    Args:
        input_shape: Height and width in pixels, of any size, or `None`; 3 channels, 0..255 RGB.
        variant: "snet49", "snet146" or "snet535".
        widths: Channels of stages 2 to 4, even numbers; the variant's.
        unit: "split" or the authors' "keep", see `ShuffleNetV2`.
        kernel_size: Height and width of the depthwise kernels; 3 for the paper's ablation.
        num_classes: `None` for features, else a `Classifier`.
        name: Name of the model.

    Returns:
        A model: images `[B, H, W, 3]` -> `{"P3": [B, ceil(H/8), ceil(W/8), C3], "P4": .., "P5": ..}`, the paper's
        C3 to C5 (of "snet49" C5 is conv5, 512 channels); or -> logits `[B, num_classes]`.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Qin et al., "ThunderNet: Towards Real-Time Generic Object Detection on Mobile Devices", ICCV 2019.
    """
    size = VARIANTS[variant]
    # conv1, max pooling, stages 2 to 4, conv5
    images, x = normalized_images(input_shape)
    x = torch_stem(x, size.stem_width, 3)
    features = shuffle_stages(x, widths, unit=unit, kernel_size=kernel_size)
    if size.last_width:
        features["P5"] = torch_conv(features["P5"], size.last_width, activation="relu", name="conv5")
    if num_classes is None:
        return keras.Model(images, features, name=name)
    return Classifier(images, classification_head(features["P5"], num_classes), name)
