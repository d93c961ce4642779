"""Anchors: a few box shapes at every cell of every pyramid level, made in NumPy."""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np

from keras_lightdet.spec import Spec


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class GridAnchors(Spec):
    """Box shapes per pyramid level, centerd on the cells of that level's grid.

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
        """Returns how many anchors cover an image of `(height, width)` pixels."""
        return (
            sum(_cells(image_size[0], stride) * _cells(image_size[1], stride) for stride in self.strides)
            * self.per_cell
        )

    def generate(self, image_size: tuple[int, int]) -> "AnchorGrid":
        """Lays the anchors over an image of `image_size` = `(height, width)` pixels.

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
        return AnchorGrid(
            np.concatenate(centers).astype("float32"),
            np.concatenate(sizes).astype("float32"),
            np.concatenate(strides).astype("float32"),
            np.concatenate(shapes).astype("int32"),
        )


@dataclass(frozen=True)
class AnchorGrid:
    """Anchors laid over one image size.

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


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class PyramidAnchors(Spec):
    """Anchors of region proposal networks: every size at every aspect ratio, at equal area (Ren et al. 2015, 3.1.1).

    The anchors of a cell run through all sizes of the first ratio, then through those of the second, and so on.

    Attributes:
        strides: Pixels from cell to cell, one entry a level, fine to coarse.
        sizes: Square roots of the anchors' areas in pixels of the network input, `[levels][sizes]`.
        aspect_ratios: Height over width, the same at all levels.
        offset: Where in its cell an anchor's center stands: 0.0 is the cell's top left corner, as in torchvision, 0.5
            its middle.
        rounded: Whether the corners of the shapes are rounded to whole pixels about their center, as in torchvision.
        fitted: Whether centers and shapes of a level whose last row or column reaches over the image's edge shrink
            along that axis, so that the cells fill the image evenly, as in EfficientDet.
    """

    strides: tuple[int, ...]
    sizes: tuple[tuple[float, ...], ...]
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    offset: float = 0.0
    rounded: bool = False
    fitted: bool = False

    def __post_init__(self):
        sizes = tuple(tuple(float(size) for size in level) for level in self.sizes)
        object.__setattr__(self, "strides", tuple(int(stride) for stride in self.strides))
        object.__setattr__(self, "sizes", sizes)
        object.__setattr__(self, "aspect_ratios", tuple(float(ratio) for ratio in self.aspect_ratios))
        if not sizes or len(self.strides) != len(sizes) or len({len(level) for level in sizes}) != 1:
            raise ValueError(
                f"Expected sizes with one row for each of the strides {self.strides}, all of one length, "
                f"got {self.sizes!r}."
            )
        numbers = [*self.strides, *self.aspect_ratios, *(size for level in sizes for size in level)]
        if not (self.per_cell and all(np.isfinite(number) and number > 0 for number in numbers)):
            raise ValueError(f"Expected strides, sizes and aspect ratios to be positive and not empty, got {self!r}.")

    @classmethod
    def octaves(cls, strides: Sequence[int], *, scale: float = 4.0, per_octave: int = 3, **options) -> "PyramidAnchors":
        """Returns anchors of `scale` times the stride, in equal steps up to twice that (Lin et al. 2017, section 4).

        Args:
            strides: See the class, which also takes the `options`.
            scale: Smallest size of a level over its stride; 4 in RetinaNet.
            per_octave: Sizes of a level.
        """
        steps = [2 ** (step / per_octave) for step in range(per_octave)]
        return cls(strides, [[scale * stride * step for step in steps] for stride in strides], **options)

    @property
    def per_cell(self) -> int:
        """Anchors at each cell."""
        return len(self.sizes[0]) * len(self.aspect_ratios)

    def level_counts(self, image_size: tuple[int, int]) -> tuple[int, ...]:
        """Returns how many anchors each level lays over an image of `(height, width)` pixels."""
        height, width = image_size
        return tuple(_cells(height, stride) * _cells(width, stride) * self.per_cell for stride in self.strides)

    def shapes(self) -> np.ndarray:
        """Returns the boxes `[levels * per_cell, 4]` about the origin, xyxy pixels, level by level."""
        return np.concatenate([self._shapes(sizes) for sizes in self.sizes])

    def generate(self, image_size: tuple[int, int]) -> np.ndarray:
        """Lays the anchors over an image of `image_size` = `(height, width)` pixels.

        Returns:
            Float32 `[N, 4]`, xyxy pixels, not clipped, in the order of the heads' outputs: level by level, row by
            row, cell by cell, anchor by anchor.
        """
        placed = []
        for stride, sizes in zip(self.strides, self.sizes, strict=True):
            rows, columns = (_cells(side, stride) for side in image_size)
            y, x = np.meshgrid(np.arange(rows) + self.offset, np.arange(columns) + self.offset, indexing="ij")
            centers = np.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4) * stride
            boxes = (centers.astype("float32") + self._shapes(sizes)).reshape(-1, 4)
            if self.fitted:
                height, width = image_size
                boxes *= np.array([width / (columns * stride), height / (rows * stride)] * 2, "float32")
            placed.append(boxes)
        return np.concatenate(placed)

    def _shapes(self, sizes: tuple[float, ...]) -> np.ndarray:
        """Boxes `[A, 4]` about the origin; float32 throughout, because what is rounded depends on it."""
        roots = np.sqrt(np.array(self.aspect_ratios, "float32"))[:, None]
        sides = np.array(sizes, "float32")
        widths, heights = ((1 / roots) * sides).reshape(-1), (roots * sides).reshape(-1)
        shapes = np.stack([-widths, -heights, widths, heights], axis=-1) / 2
        return np.round(shapes) if self.rounded else shapes


def _cells(side: int, stride: int) -> int:
    return -(-side // stride)
