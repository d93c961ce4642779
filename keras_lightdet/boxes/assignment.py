"""Label assignment: anchors or proposals are assigned to ground-truth boxes."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
from keras import ops

from keras_lightdet.boxes.overlap import pairwise_fraction_inside, pairwise_iou, shape_iou
from keras_lightdet.spec import Spec
from keras_lightdet.types import Tensor

BACKGROUND, IGNORED = -1, -2

_MAX_TABLE = 2**22  # overlaps in memory at a time (16 MiB of float32): a pyramid has 250 000 anchors per image
_DEFAULT_BATCH, _DEFAULT_BOXES = 16, 100  # assumed where the shape is unknown
_TIE = 1.0 - 1e-6  # IoUs of anchors placed symmetrically around a box differ by rounding only


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class GridAssigner(Spec):
    """Settings of label assignment in a grid detector.

    A box is assigned to the cells near its center, there to the anchor whose shape fits best among all levels and to
    every other anchor that fits well.

    Attributes:
        min_shape_iou: An anchor is assigned, too, if the IoU of its shape and the box, both centered on the same
            point, is at least this.
        center_radius: Half width, in cells, of the cross of cells around the center: 0.5 is the center's own cell
            alone, 1.0 adds the nearer neighbor in each direction.
        min_side: Boxes with a side below this many pixels are not assigned.
    """

    min_shape_iou: float = 0.4
    center_radius: float = 1.0
    min_side: float = 1.0


def assign_grid_anchors(
    centers: Tensor,
    strides: Tensor,
    shapes: Tensor,
    shape_sizes: Tensor,
    boxes: Tensor,
    valid: Tensor,
    spec: GridAssigner,
) -> Tensor:
    """Assigns the anchors of a grid detector to ground-truth boxes.

    Args:
        centers, strides, shapes: The anchors' cells and rows of `shape_sizes`, see `AnchorGrid`.
        shape_sizes: `[S, 2]`, `(width, height)` of all shapes of all levels.
        boxes: `[B, G, 4]` ground-truth boxes, xyxy pixels.
        valid: `[B, G]` bool, false for padding and for boxes to ignore.
        spec: Settings.

    Returns:
        `[B, N]` int32: the index of the box an anchor is assigned to, -1 for none. Of several boxes, an anchor gets
        the one its shape fits best.
    """
    sides = boxes[..., 2:] - boxes[..., :2]
    usable = ops.logical_and(valid, ops.min(sides, -1) >= spec.min_side)
    fit = shape_iou(ops.maximum(sides, 0.0), shape_sizes)  # [B, G, S]
    fits_well = ops.logical_or(fit >= spec.min_shape_iou, fit >= ops.max(fit, -1, keepdims=True))
    fit = ops.where(ops.logical_and(fits_well, ops.expand_dims(usable, -1)), fit + 1e-6, 0.0)
    fit = ops.take(ops.transpose(fit, (0, 2, 1)), shapes, axis=1)  # [B, N, G]
    box_centers = (boxes[..., :2] + boxes[..., 2:]) / 2
    offset_x, offset_y = (
        ops.abs(ops.expand_dims(box_centers[..., axis], -2) - centers[:, axis, None]) / strides[:, None]
        for axis in (0, 1)
    )
    near = ops.logical_and(ops.maximum(offset_x, offset_y) < spec.center_radius, ops.minimum(offset_x, offset_y) <= 0.5)
    fit = ops.where(near, fit, 0.0)
    return ops.where(ops.max(fit, -1) > 0, ops.cast(ops.argmax(fit, -1), "int32"), BACKGROUND)


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class IoUAssigner(Spec):
    """Settings of label assignment by IoU (Ren et al. 2015, section 3.1.2; Girshick 2015, section 2.3).

    Attributes:
        positive_iou: A candidate (anchor or proposal) whose IoU with some box is at least this is positive.
        negative_iou: A candidate whose best IoU is below this is background; between the two it is ignored.
        allow_low_quality: Whether a box's best candidates (all that tie) are positive below `positive_iou`, too; each
            is assigned to the box it overlaps most itself, as in torchvision. For anchors, not for proposals.
        ignore_overlap: A candidate with more than this fraction of its area inside one box to ignore is ignored.
        ignore_positives: Whether that applies to positive candidates as well. If not, an object inside a crowd keeps
            its candidates.
    """

    positive_iou: float = 0.7
    negative_iou: float = 0.3
    allow_low_quality: bool = False
    ignore_overlap: float = 0.5
    ignore_positives: bool = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.negative_iou <= self.positive_iou <= 1.0:
            raise ValueError(
                f"Expected 0 <= negative_iou <= positive_iou <= 1, got negative_iou={self.negative_iou!r} and "
                f"positive_iou={self.positive_iou!r}."
            )


def assign_anchors(candidates: Tensor, boxes: Tensor, labels: Tensor, ignore: Tensor, spec: IoUAssigner) -> Tensor:
    """Assigns anchors or proposals to ground-truth boxes by IoU. No gradient flows through the assignment.

    Where the table of all overlaps would be large, candidates are processed in chunks, which bounds the memory for any
    number of anchors.

    Args:
        candidates: `[N, 4]` anchors or `[B, N, 4]` proposals, xyxy pixels. Empty slots among proposals become
            background: the caller sets them to `IGNORED` by the "valid" that `propose` returns.
        boxes, labels, ignore: Ground truth, see `DetectionTargets`.
        spec: Settings.

    Returns:
        `[B, N]` int32: the index of the box a candidate is assigned to, `BACKGROUND` (-1), or `IGNORED` (-2) for
        candidates that are neither positive nor negative. No candidate is assigned to a box to ignore.
    """
    real = labels >= 0
    ignore = ops.logical_and(real, ops.cast(ignore, "bool"))
    real = ops.logical_and(real, ops.logical_not(ignore))
    boxes = ops.where(ops.expand_dims(labels >= 0, -1), boxes, 0.0)
    candidates = ops.stop_gradient(ops.convert_to_tensor(candidates, "float32"))
    candidates = ops.reshape(candidates, (-1, *ops.shape(candidates)[-2:]))  # [1, N, 4] or [B, N, 4]

    best, index, inside, best_of_box = _map_chunks(
        lambda chunk: _overlap_statistics(chunk, boxes, real, ignore), candidates, boxes
    )
    best_of_box = ops.max(best_of_box, axis=1)  # over the chunks: [B, G]
    positive = best >= spec.positive_iou
    if spec.allow_low_quality:
        required = ops.where(best_of_box > 0, best_of_box * _TIE, 2.0)
        (among_best,) = _map_chunks(lambda chunk: (_reaches(chunk, boxes, real, required),), candidates, boxes)
        positive = ops.logical_or(positive, among_best)
    assigned = ops.where(positive, index, ops.where(best < spec.negative_iou, BACKGROUND, IGNORED))
    ignored = inside > spec.ignore_overlap
    if not spec.ignore_positives:
        ignored = ops.logical_and(ignored, ops.logical_not(positive))
    return ops.where(ignored, IGNORED, assigned)


def _overlap_statistics(candidates: Tensor, boxes: Tensor, real: Tensor, ignore: Tensor) -> tuple[Tensor, ...]:
    """Returns the best IoU, its box and the fraction inside boxes to ignore, `[B, n]`; each box's best, `[B, 1, G]`."""
    overlap = _overlap(candidates, boxes, real)
    inside = ops.where(ops.expand_dims(ignore, 1), pairwise_fraction_inside(candidates, boxes), 0.0)
    index = ops.cast(ops.argmax(overlap, axis=-1), "int32")
    return ops.max(overlap, axis=-1), index, ops.max(inside, axis=-1), ops.max(overlap, axis=1, keepdims=True)


def _reaches(candidates: Tensor, boxes: Tensor, real: Tensor, required: Tensor) -> Tensor:
    """Returns whether a candidate's IoU with some box is at least the one required for that box, `[B, n]`."""
    return ops.any(_overlap(candidates, boxes, real) >= ops.expand_dims(required, 1), axis=-1)


def _overlap(candidates: Tensor, boxes: Tensor, real: Tensor) -> Tensor:
    """Returns the IoU `[B, n, G]`; -1 for boxes that are not real."""
    return ops.where(ops.expand_dims(real, 1), pairwise_iou(candidates, boxes), -1.0)


def _map_chunks(
    function: Callable[[Tensor], tuple[Tensor, ...]], candidates: Tensor, boxes: Tensor
) -> tuple[Tensor, ...]:
    """Applies `function` to chunks of `candidates [., N, 4]` and concatenates its results along axis 1."""
    batch, count, _ = ops.shape(candidates)
    per_candidate = (boxes.shape[0] or _DEFAULT_BATCH) * (boxes.shape[1] or _DEFAULT_BOXES)
    num_chunks = -(-count * per_candidate // _MAX_TABLE)
    if isinstance(num_chunks, int) and num_chunks <= 1:
        return function(candidates)
    size = -(-count // num_chunks)
    padding = ops.zeros((batch, num_chunks * size - count, 4))  # boxes without area overlap nothing
    padded = ops.concatenate([candidates, padding], axis=1)
    chunks = ops.transpose(ops.reshape(padded, (batch, num_chunks, size, 4)), (1, 0, 2, 3))
    joined = []
    for result in ops.map(function, chunks):  # [num_chunks, B, n, ...]
        result = ops.transpose(result, (1, 0, *range(2, len(result.shape))))
        _, _, length, *rest = ops.shape(result)
        joined.append(ops.reshape(result, (-1, num_chunks * length, *rest))[:, :count])
    return tuple(joined)
