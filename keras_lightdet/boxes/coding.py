"""Box coding: what the heads emit, turned into boxes."""

from dataclasses import dataclass

import keras
from keras import ops

from keras_lightdet.boxes.spec import Spec


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class GridCoding(Spec):
    """YOLO's coding (Redmon and Farhadi 2018, fig. 2) with the reach of a cell as a parameter.

    A centre is `cell centre + reach * stride * (sigmoid(t_xy) - 1/2)`, a side is `anchor * exp(t_wh)`. Reach 1 is
    YOLOv3's, which cannot put a centre on its cell's border; reach 2 lets neighbouring cells answer for one object
    (YOLOv4's grid sensitivity).

    Attributes:
        reach: Width of the window of centres, in cells.
        max_log_side: Bound of `|t_wh|`, so that a side neither overflows nor vanishes.
    """

    reach: float = 2.0
    max_log_side: float = 4.0

    def decode(
        self,
        deltas: keras.KerasTensor,
        centers: keras.KerasTensor,
        sizes: keras.KerasTensor,
        strides: keras.KerasTensor,
    ) -> keras.KerasTensor:
        """Returns boxes `[..., N, 4]` (xyxy pixels) of `deltas [..., N, 4]` and anchors `[N, 2]`, `[N, 2]`, `[N]`."""
        offset, log_sides = ops.split(deltas, 2, axis=-1)
        offset = (ops.sigmoid(offset) - 0.5) * self.reach
        middle = centers + offset * ops.expand_dims(strides, -1)
        half = 0.5 * sizes * ops.exp(ops.clip(log_sides, -self.max_log_side, self.max_log_side))
        return ops.concatenate([middle - half, middle + half], axis=-1)
