"""Overlap of boxes: IoU, GIoU, DIoU and CIoU. Boxes are float32 xyxy; pure functions of keras.ops."""

import math

from keras import ops

from keras_lightdet.types import Tensor

IOU_KINDS = ("iou", "giou", "diou", "ciou")
_EPSILON = 1e-7


def box_area(boxes: Tensor) -> Tensor:
    """Returns the areas `[...]` of `boxes [..., 4]`; a box with inverted corners has area 0."""
    sides = ops.maximum(boxes[..., 2:] - boxes[..., :2], 0.0)
    return sides[..., 0] * sides[..., 1]


def pairwise_intersection(boxes: Tensor, others: Tensor) -> Tensor:
    """Returns the intersection areas `[..., N, M]` of `boxes [..., N, 4]` and `others [..., M, 4]`."""
    boxes, others = ops.expand_dims(boxes, -2), ops.expand_dims(others, -3)
    # One coordinate at a time: slices of [..., N, M, 2] would double the memory of the largest tensor of the loss.
    width = ops.minimum(boxes[..., 2], others[..., 2]) - ops.maximum(boxes[..., 0], others[..., 0])
    height = ops.minimum(boxes[..., 3], others[..., 3]) - ops.maximum(boxes[..., 1], others[..., 1])
    return ops.maximum(width, 0.0) * ops.maximum(height, 0.0)


def pairwise_fraction_inside(boxes: Tensor, others: Tensor) -> Tensor:
    """Returns the fraction `[..., N, M]` of the area of `boxes [..., N, 4]` inside `others [..., M, 4]`."""
    return pairwise_intersection(boxes, others) / ops.maximum(ops.expand_dims(box_area(boxes), -1), 1e-6)


def pairwise_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Returns the IoU `[..., N, M]`, 0..1, of `boxes [..., N, 4]` and `others [..., M, 4]`; 0 where both are empty."""
    shared = pairwise_intersection(boxes, others)
    union = ops.expand_dims(box_area(boxes), -1) + ops.expand_dims(box_area(others), -2) - shared
    return shared / ops.maximum(union, _EPSILON)


def shape_iou(sizes: Tensor, others: Tensor) -> Tensor:
    """Returns the IoU `[..., N, M]` of concentric boxes, from `(width, height)` pairs `[..., N, 2]`, `[..., M, 2]`."""
    sizes, others = ops.expand_dims(sizes, -2), ops.expand_dims(others, -3)
    shared = ops.minimum(sizes[..., 0], others[..., 0]) * ops.minimum(sizes[..., 1], others[..., 1])
    union = sizes[..., 0] * sizes[..., 1] + others[..., 0] * others[..., 1] - shared
    return shared / ops.maximum(union, _EPSILON)


def iou(boxes: Tensor, others: Tensor, kind: str = "iou") -> Tensor:
    """Returns the overlap `[...]` of each box of `boxes [..., 4]` with the corresponding one of `others [..., 4]`.

    Args:
        boxes: Predicted boxes; the gradient flows through them.
        others: Ground-truth boxes.
        kind: "iou"; "giou" (Rezatofighi et al. 2019, eq. 1); "diou" or "ciou" (Zheng et al. 2020, eqs. 7 and 10).

    Returns:
        1 for equal boxes; down to -1 ("giou") or below 0 ("diou", "ciou") for disjoint boxes.

    Raises:
        ValueError: If `kind` is unknown.
    """
    if kind not in IOU_KINDS:
        raise ValueError(f"Expected kind to be one of {IOU_KINDS}, got {kind!r}.")
    shared_sides = ops.maximum(
        ops.minimum(boxes[..., 2:], others[..., 2:]) - ops.maximum(boxes[..., :2], others[..., :2]), 0.0
    )
    shared = shared_sides[..., 0] * shared_sides[..., 1]
    union = box_area(boxes) + box_area(others) - shared
    overlap = shared / ops.maximum(union, _EPSILON)
    if kind == "iou":
        return overlap
    hull = ops.maximum(boxes[..., 2:], others[..., 2:]) - ops.minimum(boxes[..., :2], others[..., :2])
    if kind == "giou":
        hull_area = hull[..., 0] * hull[..., 1]
        return overlap - (hull_area - union) / ops.maximum(hull_area, _EPSILON)
    center_offset = (boxes[..., :2] + boxes[..., 2:] - others[..., :2] - others[..., 2:]) / 2
    diagonal = ops.maximum(ops.sum(ops.square(hull), -1), _EPSILON)
    overlap_diou = overlap - ops.sum(ops.square(center_offset), -1) / diagonal
    if kind == "diou":
        return overlap_diou
    aspect = (4 / math.pi**2) * ops.square(_aspect_angle(others) - _aspect_angle(boxes))
    # The trade-off weight is a constant of the gradient (Zheng et al. 2020, section 3.3).
    weight = ops.stop_gradient(aspect / ops.maximum(1 - overlap + aspect, _EPSILON))
    return overlap_diou - weight * aspect


def _aspect_angle(boxes: Tensor) -> Tensor:
    sides = ops.maximum(boxes[..., 2:] - boxes[..., :2], _EPSILON)
    return ops.arctan(sides[..., 0] / sides[..., 1])
