"""Types that cross module boundaries: tensors, sizes, and the targets of a training batch."""

from typing import Any, TypeAlias, TypedDict

import keras
import tensorflow as tf

Tensor: TypeAlias = tf.Tensor | keras.KerasTensor  # a KerasTensor while a functional model is built
Tensors: TypeAlias = dict[str, Tensor]  # named outputs of a network, such as {"box_deltas": .., "class_logits": ..}
Size: TypeAlias = tuple[int, int]  # (height, width) in pixels
DynamicSize: TypeAlias = tuple[int | Tensor, int | Tensor]  # the same; tensors where the graph does not know the size
InputShape: TypeAlias = tuple[int, int, int]  # (height, width, 3)
Config: TypeAlias = dict[str, Any]  # constructor arguments in the form Keras saves


class _Sources(TypedDict, total=False):
    sources: Tensor


class DetectionTargets(_Sources):
    """Ground truth of a batch for a detector.

    Attributes:
        boxes: Float32 `[B, G, 4]`, `(x_min, y_min, x_max, y_max)` in pixels of the network input.
        labels: Int32 `[B, G]`, class indices; -1 pads.
        ignore: Uint8 or bool `[B, G]`, 1 for boxes that are neither positive nor negative (crowd, difficult).
        sources: Optional int32 `[B, S]`, indices of the records an image is made of; -1 pads.
    """

    boxes: Tensor
    labels: Tensor
    ignore: Tensor


class SegmentationTargets(_Sources):
    """Ground truth of a batch for a segmenter.

    Attributes:
        labels: Integers `[B, H, W]`, class indices or `keras_lightdet.labels.IGNORE`.
        sources: Optional int32 `[B, 1]`, indices of the records.
    """

    labels: Tensor
