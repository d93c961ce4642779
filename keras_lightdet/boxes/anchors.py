"""Anchors of grid detectors: a few box shapes at every cell of every pyramid level, made in NumPy."""

from dataclasses import dataclass

import keras
import numpy as np

from keras_lightdet.boxes.spec import Spec


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class GridAnchors(Spec):
    """Box shapes per pyramid level, centred on the cells of that level's grid.

    Attributes:
        strides: Pixels from cell to cell, one entry a level, fine to coarse.
        sizes: `(width, height)` in pixels of the network input, `[levels][anchors a cell]`.
    """

    strides: tuple[int, ...]
    sizes: tuple[tuple[tuple[float, float], ...], ...]

    def __post_init__(self):
        sizes = tuple(tuple((float(w), float(h)) for w, h in level) for level in self.sizes)
        object.__setattr__(self, "strides", tuple(int(stride) for stride in self.strides))
        object.__setattr__(self, "sizes", sizes)
        if len(self.strides) != len(sizes) or len({len(level) for level in sizes}) != 1:
            raise ValueError(
                f"Expected sizes with one row for each of the strides {self.strides}, all of one length, "
                f"got {self.sizes!r}."
            )
        if not all(np.isfinite(side) and side > 0 for level in sizes for size in level for side in size):
            raise ValueError(f"Expected anchor sizes to be positive pixels, got {self.sizes!r}.")

    @property
    def per_cell(self) -> int:
        """Anchors at each cell."""
        return len(self.sizes[0])

    def scaled(self, factor: float) -> "GridAnchors":
        """Returns the same shapes at `factor` times the size, for a larger or smaller network input."""
        return GridAnchors(
            self.strides, tuple(tuple((w * factor, h * factor) for w, h in level) for level in self.sizes)
        )

    def count(self, image_size: tuple[int, int]) -> int:
        """Returns how many anchors cover a picture of `(height, width)` pixels."""
        return (
            sum(_cells(image_size[0], stride) * _cells(image_size[1], stride) for stride in self.strides)
            * self.per_cell
        )

    def place(self, image_size: tuple[int, int]) -> "PlacedAnchors":
        """Lays the anchors over a picture of `image_size` = `(height, width)` pixels.

        The order is that of the heads' outputs: level by level, row by row, cell by cell, anchor by anchor.
        """
        centers, sizes, strides, shapes = [], [], [], []
        for level, stride in enumerate(self.strides):
            rows, columns = (_cells(side, stride) for side in image_size)
            y, x = np.meshgrid(np.arange(rows) + 0.5, np.arange(columns) + 0.5, indexing="ij")
            cells = np.stack([x, y], axis=-1).reshape(-1, 1, 2) * stride
            centers.append(np.repeat(cells, self.per_cell, axis=1).reshape(-1, 2))
            sizes.append(np.tile(np.array(self.sizes[level]), (rows * columns, 1)))
            strides.append(np.full(len(sizes[-1]), stride))
            shapes.append(np.tile(np.arange(self.per_cell) + level * self.per_cell, rows * columns))
        return PlacedAnchors(
            np.concatenate(centers).astype("float32"),
            np.concatenate(sizes).astype("float32"),
            np.concatenate(strides).astype("float32"),
            np.concatenate(shapes).astype("int32"),
        )


@dataclass(frozen=True)
class PlacedAnchors:
    """Anchors laid over one picture size.

    Attributes:
        centers: Float32 `[N, 2]`, `(x, y)` pixels: the middle of the anchor's cell.
        sizes: Float32 `[N, 2]`, `(width, height)` pixels.
        strides: Float32 `[N]`, side of the anchor's cell in pixels.
        shapes: Int32 `[N]`, which of the levels' shapes this is, counted over all levels.
    """

    centers: np.ndarray
    sizes: np.ndarray
    strides: np.ndarray
    shapes: np.ndarray


def _cells(side: int, stride: int) -> int:
    return -(-side // stride)
