"""Box coding: boxes as the deltas that heads predict, and back."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import keras
from keras import ops

from keras_lightdet.spec import Spec
from keras_lightdet.types import Tensor

_MIN_SIDE = 1e-3  # pixels; smaller sides are encoded as this, so that padding gives finite numbers


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class GridCoding(Spec):
    """The coding of YOLO (Redmon and Farhadi 2018, fig. 2) with the range of the center as a parameter.

    The center is `cell center + reach * stride * (sigmoid(t_xy) - 1/2)`, a side is `anchor * exp(t_wh)`. Reach 1 is
    YOLOv3's, which cannot place a center on its cell's border; reach 2 lets neighboring cells predict one object
    (YOLOv4's grid sensitivity).

    Attributes:
        reach: Width of the range of centers, in cells.
        max_log_side: Bound of `|t_wh|`, so that a side neither overflows nor vanishes.
    """

    reach: float = 2.0
    max_log_side: float = 4.0

    def decode(self, deltas: Tensor, centers: Tensor, sizes: Tensor, strides: Tensor) -> Tensor:
        """Decodes `deltas [..., N, 4]` of anchors `[N, 2]`, `[N, 2]`, `[N]` to boxes `[..., N, 4]`, xyxy pixels."""
        offset, log_sides = ops.split(deltas, 2, axis=-1)
        offset = (ops.sigmoid(offset) - 0.5) * self.reach
        box_centers = centers + offset * ops.expand_dims(strides, -1)
        half = 0.5 * sizes * ops.exp(ops.clip(log_sides, -self.max_log_side, self.max_log_side))
        return ops.concatenate([box_centers - half, box_centers + half], axis=-1)


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class DeltaCoding(Spec):
    """The coding of R-CNN (Girshick et al. 2014, appendix C): a box relative to an anchor or a proposal.

    `t_xy = weight * (center - anchor center) / anchor side` and `t_wh = weight * log(side / anchor side)`.

    Attributes:
        weights: Factors of `(x, y, width, height)`, the inverse of the deltas' standard deviations. Region proposal
            networks use 1, the heads of second stages (10, 10, 5, 5).
        max_log_side: Bound of `t_wh / weight`, so that a side does not overflow. The default lets a stride of 16
            pixels grow to 1000.
    """

    weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    max_log_side: float = math.log(1000 / 16)

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", tuple(float(weight) for weight in self.weights))
        if len(self.weights) != 4 or not all(weight > 0 for weight in self.weights):
            raise ValueError(f"Expected weights to be four positive factors, got {self.weights!r}.")

    @classmethod
    def from_stds(cls, stds: Sequence[float]) -> "DeltaCoding":
        """Returns the coding whose deltas are divided by the standard deviations `(x, y, width, height)`."""
        x, y, width, height = (1.0 / std for std in stds)
        return cls((x, y, width, height))

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """Encodes `boxes [..., 4]` relative to `anchors [..., 4]`, both xyxy pixels, as deltas `[..., 4]`."""
        centers, sides = _centers_and_sides(boxes)
        anchor_centers, anchor_sides = _centers_and_sides(anchors)
        sides, anchor_sides = ops.maximum(sides, _MIN_SIDE), ops.maximum(anchor_sides, _MIN_SIDE)
        offsets, log_sides = (centers - anchor_centers) / anchor_sides, ops.log(sides / anchor_sides)
        return ops.concatenate([offsets, log_sides], axis=-1) * self._weights()

    def decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Decodes `deltas [..., 4]` to boxes `[..., 4]`, xyxy pixels that may leave the image.

        `anchors [..., 4]` are broadcast: `[B, R, 1, 4]` for deltas `[B, R, K, 4]` of K classes.
        """
        centers, sides = _centers_and_sides(anchors)
        offsets, log_sides = ops.split(deltas / self._weights(), 2, axis=-1)
        centers = centers + offsets * sides
        half = 0.5 * sides * ops.exp(ops.minimum(log_sides, self.max_log_side))
        return ops.concatenate([centers - half, centers + half], axis=-1)

    def _weights(self) -> Tensor:
        return ops.convert_to_tensor(self.weights, "float32")


def _centers_and_sides(boxes: Tensor) -> tuple[Tensor, Tensor]:
    low, high = ops.split(boxes, 2, axis=-1)
    return (low + high) / 2, high - low
