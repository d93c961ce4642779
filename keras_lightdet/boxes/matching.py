"""Matching of anchors to true boxes."""

from dataclasses import dataclass

import keras
from keras import ops

from keras_lightdet.boxes.overlap import shape_iou
from keras_lightdet.boxes.spec import Spec


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class GridMatch(Spec):
    """Which anchors answer for a box in a grid detector.

    A box is answered by the cells near its centre, there by its best shape of all levels and by every shape that
    fits well.

    Attributes:
        min_shape_iou: A shape whose IoU with the box (centres laid together) is at least this answers too.
        near: Half width, in cells, of the cross of cells around the centre: 0.5 is the centre's own cell alone, 1.0
            adds the nearer neighbour in each direction.
        min_side: Boxes with a side below this many pixels are not matched.
    """

    min_shape_iou: float = 0.4
    near: float = 1.0
    min_side: float = 1.0


def match_grid_anchors(
    centers: keras.KerasTensor,
    strides: keras.KerasTensor,
    shapes: keras.KerasTensor,
    shape_sizes: keras.KerasTensor,
    boxes: keras.KerasTensor,
    valid: keras.KerasTensor,
    spec: GridMatch,
) -> keras.KerasTensor:
    """Matches anchors to boxes.

    Args:
        centers: `[N, 2]`, the anchors' cell centres in pixels.
        strides: `[N]`, the anchors' cell sides in pixels.
        shapes: `[N]` int, the row of `shape_sizes` each anchor has.
        shape_sizes: `[S, 2]`, `(width, height)` of all shapes of all levels.
        boxes: `[B, G, 4]` true boxes, xyxy pixels.
        valid: `[B, G]` bool, false for padding and for boxes to ignore.
        spec: The rule.

    Returns:
        `[B, N]` int32: the index of the box that an anchor answers for, -1 for none. An anchor wanted by several
        takes the one whose shape it fits best.
    """
    sides = boxes[..., 2:] - boxes[..., :2]
    usable = ops.logical_and(valid, ops.min(sides, -1) >= spec.min_side)
    fit = shape_iou(ops.maximum(sides, 0.0), shape_sizes)  # [B, G, S]
    chosen = ops.logical_or(fit >= spec.min_shape_iou, fit >= ops.max(fit, -1, keepdims=True))
    fit = ops.where(ops.logical_and(chosen, ops.expand_dims(usable, -1)), fit + 1e-6, 0.0)
    fit = ops.take(ops.transpose(fit, (0, 2, 1)), shapes, axis=1)  # [B, N, G]
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2
    offset_x, offset_y = (
        ops.abs(ops.expand_dims(middle[..., axis], -2) - centers[:, axis, None]) / strides[:, None] for axis in (0, 1)
    )
    near = ops.logical_and(ops.maximum(offset_x, offset_y) < spec.near, ops.minimum(offset_x, offset_y) <= 0.5)
    fit = ops.where(near, fit, 0.0)
    return ops.where(ops.max(fit, -1) > 0, ops.cast(ops.argmax(fit, -1), "int32"), -1)
