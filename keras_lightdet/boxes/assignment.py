"""Matching of anchors and proposals to true boxes."""

from dataclasses import dataclass

import keras
from keras import ops

from keras_lightdet.boxes.overlap import box_area, pairwise_intersection, pairwise_iou, shape_iou
from keras_lightdet.spec import Spec

BACKGROUND, UNDECIDED = -1, -2

_LARGEST_TABLE = 2**22  # overlaps held at a time (16 MiB of float32): a pyramid has 250 000 anchors an image
_USUAL_BATCH, _USUAL_BOXES = 16, 100  # where the shape does not tell
_TIE = 1.0 - 1e-6  # anchors that lie alike about a box differ by rounding only


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class GridAssigner(Spec):
    """Which anchors answer for a box in a grid detector.

    A box is answered by the cells near its center, there by its best shape of all levels and by every shape that
    fits well.

    Attributes:
        min_shape_iou: A shape whose IoU with the box (centers laid together) is at least this answers too.
        near: Half width, in cells, of the cross of cells around the center: 0.5 is the center's own cell alone, 1.0
            adds the nearer neighbor in each direction.
        min_side: Boxes with a side below this many pixels are not matched.
    """

    min_shape_iou: float = 0.4
    near: float = 1.0
    min_side: float = 1.0


def assign_grid_anchors(
    centers: keras.KerasTensor,
    strides: keras.KerasTensor,
    shapes: keras.KerasTensor,
    shape_sizes: keras.KerasTensor,
    boxes: keras.KerasTensor,
    valid: keras.KerasTensor,
    spec: GridAssigner,
) -> keras.KerasTensor:
    """Matches anchors to boxes.

    Args:
        centers: `[N, 2]`, the anchors' cell centers in pixels.
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


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class IoUAssigner(Spec):
    """Which candidates answer for a box (Ren et al. 2015, section 3.1.2; Girshick 2015, section 2.3).

    Attributes:
        high: A candidate whose IoU with some box is at least this is positive.
        low: One whose best IoU is below this is background; in between it is undecided.
        allow_low_quality: Whether a box's best candidates (all that tie) are positive below `high` too; each answers
            for the box that it overlaps most itself, as in torchvision. For anchors, not for proposals.
        ignore_overlap: A candidate of whose area more than this share lies in one box to ignore is undecided.
        ignore_first: Whether that takes positives as well. If not, an object inside a crowd keeps its candidates.
    """

    high: float = 0.7
    low: float = 0.3
    allow_low_quality: bool = False
    ignore_overlap: float = 0.5
    ignore_first: bool = True

    def __post_init__(self):
        if not 0.0 <= self.low <= self.high <= 1.0:
            raise ValueError(f"Expected 0 <= low <= high <= 1, got low {self.low!r} and high {self.high!r}.")


def assign_anchors(
    candidates: keras.KerasTensor,
    boxes: keras.KerasTensor,
    labels: keras.KerasTensor,
    ignore: keras.KerasTensor,
    spec: IoUAssigner,
) -> keras.KerasTensor:
    """Matches candidates to true boxes.

    Candidates are taken in pieces where the table of all overlaps would be large, so memory is bounded whatever the
    number of anchors. The gradient does not flow.

    Args:
        candidates: `[N, 4]` anchors or `[B, N, 4]` proposals, xyxy pixels. Empty slots among proposals come out as
            background: the caller marks them `UNDECIDED` by `propose`'s "valid".
        boxes: `[B, G, 4]` true boxes, xyxy pixels.
        labels: `[B, G]`, -1 for padding.
        ignore: `[B, G]`, bool or 1 and 0: crowds and difficult boxes.
        spec: The rule.

    Returns:
        `[B, N]` int32: the index of the box that a candidate answers for, `BACKGROUND` (-1), or `UNDECIDED` (-2) for
        those that count neither way. Boxes to ignore are never answered for.
    """
    real = labels >= 0
    ignore = ops.logical_and(real, ops.cast(ignore, "bool"))
    real = ops.logical_and(real, ops.logical_not(ignore))
    boxes = ops.where(ops.expand_dims(labels >= 0, -1), boxes, 0.0)
    candidates = ops.stop_gradient(ops.convert_to_tensor(candidates, "float32"))
    candidates = ops.reshape(candidates, (-1, *ops.shape(candidates)[-2:]))  # [1, N, 4] or [B, N, 4]

    best, index, inside, best_of_box = _in_pieces(lambda piece: _survey(piece, boxes, real, ignore), candidates, boxes)
    best_of_box = ops.max(best_of_box, axis=1)  # over the pieces: [B, G]
    positive = best >= spec.high
    if spec.allow_low_quality:
        wanted = ops.where(best_of_box > 0, best_of_box * _TIE, 2.0)
        (among_best,) = _in_pieces(lambda piece: (_reaches(piece, boxes, real, wanted),), candidates, boxes)
        positive = ops.logical_or(positive, among_best)
    matched = ops.where(positive, index, ops.where(best < spec.low, BACKGROUND, UNDECIDED))
    ignored = inside > spec.ignore_overlap
    if not spec.ignore_first:
        ignored = ops.logical_and(ignored, ops.logical_not(positive))
    return ops.where(ignored, UNDECIDED, matched)


def _survey(candidates, boxes, real, ignore) -> tuple:
    """Best IoU, its box and the share inside boxes to ignore, each `[B, n]`; the best IoU of each box, `[B, 1, G]`."""
    overlap = _overlap(candidates, boxes, real)
    inside = pairwise_intersection(candidates, boxes) / ops.maximum(box_area(candidates)[..., None], 1e-6)
    inside = ops.where(ops.expand_dims(ignore, 1), inside, 0.0)
    index = ops.cast(ops.argmax(overlap, axis=-1), "int32")
    return ops.max(overlap, axis=-1), index, ops.max(inside, axis=-1), ops.max(overlap, axis=1, keepdims=True)


def _reaches(candidates, boxes, real, wanted):
    """Whether a candidate's IoU with some box is at least the one wanted for that box, `[B, n]`."""
    return ops.any(_overlap(candidates, boxes, real) >= ops.expand_dims(wanted, 1), axis=-1)


def _overlap(candidates, boxes, real):
    """IoU `[B, n, G]`; -1 for boxes that are not real."""
    return ops.where(ops.expand_dims(real, 1), pairwise_iou(candidates, boxes), -1.0)


def _in_pieces(function, candidates, boxes) -> tuple:
    """Applies `function` to pieces of `candidates [., N, 4]` and lays its results together along their axis 1."""
    batch, count, _ = ops.shape(candidates)
    per_candidate = (boxes.shape[0] or _USUAL_BATCH) * (boxes.shape[1] or _USUAL_BOXES)
    pieces = -(-count * per_candidate // _LARGEST_TABLE)
    if isinstance(pieces, int) and pieces <= 1:
        return function(candidates)
    size = -(-count // pieces)
    spare = ops.zeros((batch, pieces * size - count, 4))  # boxes without area overlap nothing
    padded = ops.concatenate([candidates, spare], axis=1)
    split = ops.transpose(ops.reshape(padded, (batch, pieces, size, 4)), (1, 0, 2, 3))
    joined = []
    for result in ops.map(function, split):  # [pieces, B, n, ...]
        result = ops.transpose(result, (1, 0, *range(2, len(result.shape))))
        _, _, length, *rest = ops.shape(result)
        joined.append(ops.reshape(result, (-1, pieces * length, *rest))[:, :count])
    return tuple(joined)
