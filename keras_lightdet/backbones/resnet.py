"""ResNet (He et al. 2016) as torchvision lays it out: the stride is on the 3x3 convolution."""

import keras
from keras import layers

from keras_lightdet.backbones.imagenet import classifier, normalized_images, torch_conv, torch_stem

STEM_WIDTH = 64
WIDTHS = (64, 128, 256, 512)  # of the 3x3 convolutions in stages 2 to 5
EXPANSION = 4  # of a bottleneck's last 1x1 convolution
# Blocks in stages 2 to 5, and whether they are bottlenecks (table 1).
DEPTHS = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
}


def ResNet(  # noqa: N802 - builders are CapWords
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    *,
    depth: int = 50,
    dilate_last: bool = False,
    num_classes: int | None = None,
    name: str = "resnet",
) -> keras.Model:
    """Builds ResNet-18, 34, 50 or 101.

    Differs from the paper's table 1 where torchvision does, whose weights `keras_lightdet.foreign_weights` reads: a
    bottleneck of stride 2 takes its step in the 3x3 convolution, not in the first 1x1.

    Args:
        input_shape: Height and width in pixels, of any size, or `None`; 3 channels, 0..255 RGB.
        depth: 18 or 34 (basic blocks), 50 or 101 (bottlenecks).
        dilate_last: `True` keeps stage 5 at stride 16 and spreads the taps of all its 3x3 convolutions by 2, those
            of its first block included (Light-Head R-CNN L).
        num_classes: `None` for features, else the classifier.
        name: Name of the model.

    Returns:
        A model: images `[B, H, W, 3]` -> `{"P2": [B, ceil(H/4), ceil(W/4), C2], .., "P5": ..}`, the outputs of stages
        2 to 5 at strides 4, 8, 16 and 32 (P5: 16 if `dilate_last`); or -> logits `[B, num_classes]`.

    Raises:
        ValueError: If an argument is none of the above.

    Reference:
        He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.
    """
    if depth not in DEPTHS:
        raise ValueError(f"Expected depth to be one of {sorted(DEPTHS)}, got {depth!r}.")
    repeats, bottleneck = DEPTHS[depth]
    block_of = _bottleneck if bottleneck else _basic_block
    images, x = normalized_images(input_shape, num_classes)
    x = torch_stem(x, STEM_WIDTH, 7)
    features = {}
    for stage, (width, count) in enumerate(zip(WIDTHS, repeats, strict=True), start=2):
        dilated = dilate_last and stage == 5
        for block in range(1, count + 1):
            strides = 2 if block == 1 and stage > 2 and not dilated else 1
            x = block_of(x, width, strides, 2 if dilated else 1, name=f"stage{stage}_block{block}")
        features[f"P{stage}"] = x
    if num_classes is None:
        return keras.Model(images, features, name=name)
    architecture = {"builder": "ResNet", "depth": depth, "dilate_last": dilate_last}
    return classifier(images, features["P5"], num_classes, architecture, name=name)


def _basic_block(x: keras.KerasTensor, width: int, strides: int, dilation: int, *, name: str) -> keras.KerasTensor:
    """Two 3x3 convolutions (fig. 5 left)."""
    shortcut = _shortcut(x, width, strides, name=name)
    x = torch_conv(x, width, 3, strides, activation="relu", dilation=dilation, name=f"{name}_spatial1")
    x = torch_conv(x, width, 3, activation=None, dilation=dilation, name=f"{name}_spatial2")
    return _join(shortcut, x, name=name)


def _bottleneck(x: keras.KerasTensor, width: int, strides: int, dilation: int, *, name: str) -> keras.KerasTensor:
    """1x1 to reduce, 3x3, 1x1 to expand (fig. 5 right)."""
    shortcut = _shortcut(x, EXPANSION * width, strides, name=name)
    x = torch_conv(x, width, activation="relu", name=f"{name}_reduce")
    x = torch_conv(x, width, 3, strides, activation="relu", dilation=dilation, name=f"{name}_spatial")
    x = torch_conv(x, EXPANSION * width, activation=None, name=f"{name}_expand")
    return _join(shortcut, x, name=name)


def _shortcut(x: keras.KerasTensor, width: int, strides: int, *, name: str) -> keras.KerasTensor:
    """The input itself, or its 1x1 projection where the shape changes (option B of section 3.3)."""
    if strides == 1 and x.shape[-1] == width:
        return x
    return torch_conv(x, width, 1, strides, activation=None, name=f"{name}_shortcut")


def _join(shortcut: keras.KerasTensor, x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.Activation("relu", name=f"{name}_out")(x)
