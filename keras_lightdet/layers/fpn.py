"""Feature pyramid network: upsampled coarse maps, rich in semantics, are added to fine ones, rich in position."""

from collections.abc import Mapping

import keras
from keras import layers

from keras_lightdet.layers.resize import upsample_to_match


def fpn(
    features: Mapping[str, keras.KerasTensor], width: int = 256, *, extra_level: bool = False, name: str = "fpn"
) -> dict[str, keras.KerasTensor]:
    """Adds the top-down path with lateral connections (fig. 3): no batch norm, no activation.

    The sides of a map are half of those of the finer one, rounded up. An upsampled map is cropped at the bottom and the
    right, which takes the pixels of PyTorch's nearest interpolation, `floor(i * coarse / fine)`.

    Args:
        features: Maps `[B, H, W, C]` by level, fine to coarse, each half as large as the one before.
        width: Channels of every level.
        extra_level: Whether subsampling the coarsest map by 2 gives one more level (footnote 2): "P6" after "P5".
        name: Prefix of the layers' names: `fpn_p2_lateral`, `fpn_p2_out`, ..

    Returns:
        Maps `[B, H, W, width]` of the same levels and the extra one, fine to coarse.

    Reference:
        Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017.
    """

    def conv(x: keras.KerasTensor, kernel_size: int, suffix: str) -> keras.KerasTensor:
        uniform = keras.initializers.VarianceScaling(1.0, mode="fan_in", distribution="uniform")
        return layers.Conv2D(width, kernel_size, padding="same", kernel_initializer=uniform, name=f"{name}_{suffix}")(x)

    merged: dict[str, keras.KerasTensor] = {}
    coarser = None
    for level in reversed(list(features)):
        prefix = level.lower()
        x = conv(features[level], 1, f"{prefix}_lateral")
        if coarser is not None:
            upsampled = upsample_to_match(coarser, x, name=f"{name}_{prefix}")
            x = layers.Add(name=f"{name}_{prefix}_add")([x, upsampled])
        merged[level] = coarser = x
    pyramid = {level: conv(merged[level], 3, f"{level.lower()}_out") for level in features}
    if extra_level:
        coarsest = list(pyramid)[-1]
        extra = f"P{int(coarsest.removeprefix('P')) + 1}"
        pyramid[extra] = layers.MaxPooling2D(1, 2, name=f"{name}_{extra.lower()}_out")(pyramid[coarsest])
    return pyramid
