"""The one form every data set is read into: records of images and their boxes."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from keras_lightdet.errors import DataError


@dataclass(frozen=True)
class ImageRecord:
    """One image and what is labeled in it.

    Attributes:
        path: The image's file.
        image_id: The id the data set gives it (file stem in VOC, integer in COCO).
        width: Pixels, after the EXIF orientation is applied.
        height: Pixels, after the EXIF orientation is applied.
        boxes: Float32 `[n, 4]`, `(x_min, y_min, x_max, y_max)` in pixels of the image, 0-based, continuous.
        labels: Int32 `[n]`, contiguous from 0, indices into the data set's `class_names`.
        ignore: Bool `[n]`, true for crowd (COCO) and difficult (VOC) boxes: neither a hit nor a miss.
        areas: Float32 `[n]`, the labeled area in square pixels (COCO: of the mask), else that of the box.
    """

    path: str
    image_id: str | int
    width: int
    height: int
    boxes: np.ndarray
    labels: np.ndarray
    ignore: np.ndarray
    areas: np.ndarray


@dataclass(frozen=True)
class DataIssue:
    """Something in a data set that was skipped or mended, with the file it stands in."""

    kind: str
    path: str
    detail: str


@dataclass(frozen=True)
class DetectionData:
    """A split of a data set: records, class names and what was found wrong while reading.

    Attributes:
        records: One per usable image, images without objects included.
        class_names: Names in label order.
        issues: What was skipped or mended; empty for clean data.
        category_ids: The data set's own id of each class (COCO: sparse), in label order.
    """

    records: Sequence[ImageRecord]
    class_names: tuple[str, ...]
    issues: tuple[DataIssue, ...] = ()
    category_ids: tuple[int, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.records)


def join_data(parts: Sequence[DetectionData]) -> DetectionData:
    """Puts splits or data sets of the same classes behind one another.

    Raises:
        DataError: If their classes differ.
    """
    first = parts[0]
    for part in parts[1:]:
        if part.class_names != first.class_names:
            raise DataError(
                f"Expected data of the classes {list(first.class_names)} to join, got {list(part.class_names)}. "
                "Load each with class_names= of the first."
            )
    records = [record for part in parts for record in part.records]
    return DetectionData(records, first.class_names, sum((part.issues for part in parts), ()), first.category_ids)
