"""Anchor generators: the same box shapes at every cell of a pyramid level, computed with NumPy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_lightdet.spec import Spec
from keras_lightdet.types import Size


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class GridAnchors(Spec):
    """Anchors of a grid detector: fixed shapes per pyramid level, centered on the level's cells.

    Attributes:
        strides: Pixels between neighboring cells, one entry per level, fine to coarse.
        sizes: `(width, height)` in pixels of the network input, `[levels][anchors per cell]`.
    """

    strides: tuple[int, ...]
    sizes: tuple[tuple[tuple[float, float], ...], ...]

    def __post_init__(self) -> None:
        sizes = tuple(tuple((float(w), float(h)) for w, h in level) for level in self.sizes)
        object.__setattr__(self, "strides", tuple(int(stride) for stride in self.strides))
        object.__setattr__(self, "sizes", sizes)
        _check_rows(self.strides, sizes)
        if not all(np.isfinite(side) and side > 0 for level in sizes for size in level for side in size):
            raise ValueError(f"Expected anchor sizes to be positive pixels, got {self.sizes!r}.")

    @property
    def per_cell(self) -> int:
        """Anchors per cell."""
        return len(self.sizes[0])

    def scaled(self, factor: float) -> "GridAnchors":
        """Returns anchors `factor` times as large, for a larger or smaller network input."""
        sizes = tuple(tuple((w * factor, h * factor) for w, h in level) for level in self.sizes)
        return GridAnchors(self.strides, sizes)

    def generate(self, image_size: Size) -> "AnchorGrid":
        """Generates the anchors for an image of `image_size` = `(height, width)` pixels.

        The order is that of the heads' outputs: by level, row, column, then anchor of the cell.
        """
        centers, sizes, strides, shapes = [], [], [], []
        for level, stride in enumerate(self.strides):
            cells = _cell_points(image_size, stride, offset=0.5)
            centers.append(np.repeat(cells, self.per_cell, axis=0))
            sizes.append(np.tile(np.array(self.sizes[level]), (len(cells), 1)))
            strides.append(np.full(len(sizes[-1]), stride))
            shapes.append(np.tile(np.arange(self.per_cell) + level * self.per_cell, len(cells)))
        return AnchorGrid(
            np.concatenate(centers).astype("float32"),
            np.concatenate(sizes).astype("float32"),
            np.concatenate(strides).astype("float32"),
            np.concatenate(shapes).astype("int32"),
        )


@dataclass(frozen=True)
class AnchorGrid:
    """The anchors that `GridAnchors` generates for one image size.

    Attributes:
        centers: Float32 `[N, 2]`, `(x, y)` pixels: the center of the anchor's cell.
        sizes: Float32 `[N, 2]`, `(width, height)` pixels.
        strides: Float32 `[N]`, side of the anchor's cell in pixels.
        shapes: Int32 `[N]`, index of the anchor's shape among those of all levels.
    """

    centers: np.ndarray
    sizes: np.ndarray
    strides: np.ndarray
    shapes: np.ndarray


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class PyramidAnchors(Spec):
    """Anchors of region proposal networks and dense heads: each size at each aspect ratio (Ren et al. 2015, 3.1.1).

    All aspect ratios of a size have the same area. A cell's anchors are ordered by ratio, then by size.

    Attributes:
        strides: Pixels between neighboring cells, one entry per level, fine to coarse.
        sizes: Square roots of the anchors' areas in pixels of the network input, `[levels][sizes]`.
        aspect_ratios: Height over width, the same at all levels.
        offset: Position of the center in its cell: 0.0 is the cell's top left corner (torchvision), 0.5 its center.
        rounded: Whether the corners relative to the center are rounded to whole pixels, as in torchvision.
        fitted: Whether the anchors of a level whose last row or column extends beyond the image are scaled down along
            that axis, so that the cells cover the image exactly, as in EfficientDet.
    """

    strides: tuple[int, ...]
    sizes: tuple[tuple[float, ...], ...]
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    offset: float = 0.0
    rounded: bool = False
    fitted: bool = False

    def __post_init__(self) -> None:
        sizes = tuple(tuple(float(size) for size in level) for level in self.sizes)
        object.__setattr__(self, "strides", tuple(int(stride) for stride in self.strides))
        object.__setattr__(self, "sizes", sizes)
        object.__setattr__(self, "aspect_ratios", tuple(float(ratio) for ratio in self.aspect_ratios))
        _check_rows(self.strides, sizes)
        numbers = [*self.strides, *self.aspect_ratios, *(size for level in sizes for size in level)]
        if not (self.per_cell and all(np.isfinite(number) and number > 0 for number in numbers)):
            raise ValueError(f"Expected strides, sizes and aspect ratios to be positive and not empty, got {self!r}.")

    @classmethod
    def octaves(
        cls, strides: Sequence[int], *, scale: float = 4.0, per_octave: int = 3, **options: Any
    ) -> "PyramidAnchors":
        """Returns anchors of `scale` times the stride, in equal steps up to twice that (Lin et al. 2017, section 4).

        Args:
            strides, **options: Attributes of the class.
            scale: Smallest size of a level divided by its stride; 4 in RetinaNet.
            per_octave: Sizes per level.
        """
        steps = [2 ** (step / per_octave) for step in range(per_octave)]
        sizes = tuple(tuple(scale * stride * step for step in steps) for stride in strides)
        return cls(tuple(strides), sizes, **options)

    @property
    def per_cell(self) -> int:
        """Anchors per cell."""
        return len(self.sizes[0]) * len(self.aspect_ratios)

    def level_counts(self, image_size: Size) -> tuple[int, ...]:
        """Returns the number of anchors of each level for an image of `(height, width)` pixels."""
        height, width = image_size
        return tuple(_cells(height, stride) * _cells(width, stride) * self.per_cell for stride in self.strides)

    def shapes(self) -> np.ndarray:
        """Returns the anchors of one cell per level, centered on the origin: `[levels * per_cell, 4]`, xyxy pixels."""
        return np.concatenate([self._shapes(sizes) for sizes in self.sizes])

    def generate(self, image_size: Size) -> np.ndarray:
        """Generates the anchors for an image of `image_size` = `(height, width)` pixels.

        Returns:
            Float32 `[N, 4]`, xyxy pixels, not clipped, in the order of the heads' outputs: by level, row, column, then
            anchor of the cell.
        """
        height, width = image_size
        anchors = []
        for stride, sizes in zip(self.strides, self.sizes, strict=True):
            centers = np.tile(_cell_points(image_size, stride, self.offset), 2)[:, None]
            boxes = (centers.astype("float32") + self._shapes(sizes)).reshape(-1, 4)
            if self.fitted:
                rows, columns = _cells(height, stride), _cells(width, stride)
                boxes *= np.array([width / (columns * stride), height / (rows * stride)] * 2, "float32")
            anchors.append(boxes)
        return np.concatenate(anchors)

    def _shapes(self, sizes: tuple[float, ...]) -> np.ndarray:
        """Returns boxes `[A, 4]` centered on the origin; float32 throughout, because the rounding depends on it."""
        roots = np.sqrt(np.array(self.aspect_ratios, "float32"))[:, None]
        sides = np.array(sizes, "float32")
        widths, heights = ((1 / roots) * sides).reshape(-1), (roots * sides).reshape(-1)
        shapes = np.stack([-widths, -heights, widths, heights], axis=-1) / 2
        return np.round(shapes) if self.rounded else shapes


def _check_rows(strides: tuple[int, ...], sizes: tuple[tuple[Any, ...], ...]) -> None:
    if len(strides) != len(sizes) or len({len(level) for level in sizes}) != 1:
        raise ValueError(f"Expected sizes with a row of one length for each of the strides {strides}, got {sizes!r}.")


def _cells(side: int, stride: int) -> int:
    return -(-side // stride)


def _cell_points(image_size: Size, stride: int, offset: float) -> np.ndarray:
    """Returns the points `[cells, 2]`, `(x, y)` pixels, at `offset` of each cell, row by row."""
    rows, columns = (_cells(side, stride) for side in image_size)
    y, x = np.meshgrid(np.arange(rows) + offset, np.arange(columns) + offset, indexing="ij")
    return np.stack([x, y], axis=-1).reshape(-1, 2) * stride
