"""The heads of RetinaNet and EfficientDet: a class network and a box network, shared by all levels of a pyramid."""

import math
from collections.abc import Mapping, Sequence

import keras
from keras import layers

from keras_lightdet.layers.conv import NormSpec, activate, batch_norm

CLASS_PRIOR = 0.01  # initial score of every class (Lin et al. 2017, section 4.1)


def dense_heads(
    pyramid: Mapping[str, keras.KerasTensor],
    num_classes: int,
    per_cell: int,
    *,
    width: int,
    repeats: int,
    separable: bool,
    activation: str,
    norm: NormSpec | None,
    initializer: str | keras.initializers.Initializer = "variance_scaling",
    use_bias: bool = True,
) -> dict[str, keras.KerasTensor]:
    """Adds the class network and the box network (Lin et al. 2017, section 4, figs. 3c and 3d).

    All levels share the convolutions. Each level has its own batch norms, because statistics differ (Tan et al. 2020,
    released code).

    Args:
        pyramid: Maps `[B, H, W, C]` by level, fine to coarse.
        num_classes: Number of classes.
        per_cell: Anchors per cell.
        width: Channels of the 3x3 convolutions.
        repeats: Number of 3x3 convolutions before each prediction.
        separable: Whether the 3x3 convolutions, those of the predictions too, are depthwise separable.
        activation: Keras name.
        norm: Momentum and epsilon of the batch norms; `None` for none.
        initializer: Of all kernels.
        use_bias: Whether the convolutions before the predictions have biases; the predictions always have.

    Returns:
        Float32 `{"box_deltas" [B, N, 4], "class_logits" [B, N, num_classes]}`, ordered by level, row, column, anchor.
    """
    conv = layers.SeparableConv2D if separable else layers.Conv2D
    if separable:
        kernels = {"depthwise_initializer": initializer, "pointwise_initializer": initializer}
    else:
        kernels = {"kernel_initializer": initializer}
    prior = keras.initializers.Constant(-math.log((1 - CLASS_PRIOR) / CLASS_PRIOR))
    raw = {}
    for task, key, depth, bias in (("box", "box_deltas", 4, "zeros"), ("class", "class_logits", num_classes, prior)):
        trunk = [
            conv(width, 3, padding="same", use_bias=use_bias, **kernels, name=f"{task}_net_conv{step}")
            for step in range(1, repeats + 1)
        ]
        predict = conv(depth * per_cell, 3, padding="same", **kernels, bias_initializer=bias, name=f"predict_{task}")
        rows = []
        for level, x in pyramid.items():
            x = predict(_tower(x, trunk, activation, norm, level.lower()))
            rows.append(layers.Reshape((-1, depth), name=f"predict_{task}_{level.lower()}_rows")(x))
        raw[key] = layers.Concatenate(axis=1, dtype="float32", name=key)(rows)
    return raw


def _tower(
    x: keras.KerasTensor, trunk: Sequence[layers.Layer], activation: str, norm: NormSpec | None, level: str
) -> keras.KerasTensor:
    """Adds the shared convolutions, each followed by the level's own batch norm and the activation."""
    for conv in trunk:
        name = f"{conv.name}_{level}"
        x = conv(x)
        x = x if norm is None else batch_norm(x, norm=norm, name=f"{name}_bn")
        x = activate(x, activation, name=f"{name}_act")
    return x
