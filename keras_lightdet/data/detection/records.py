"""The form into which all detection data sets are read: records of images and their boxes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_lightdet.data.issues import DataIssue
from keras_lightdet.errors import DataError


@dataclass(frozen=True)
class ImageRecord:
    """One image and its labeled boxes.

    Attributes:
        path: The image file.
        image_id: The data set's id of the image (VOC: the file stem, COCO: an integer).
        width: Pixels, with the EXIF orientation applied.
        height: Pixels, with the EXIF orientation applied.
        boxes: Float32 `[n, 4]`, `(x_min, y_min, x_max, y_max)` in pixels of the image, 0-based, continuous.
        labels: Int32 `[n]`, indices into the data set's `class_names`.
        ignore: Bool `[n]`, true for crowd (COCO) and difficult (VOC) boxes: neither positive nor negative.
        areas: Float32 `[n]`, labeled areas in square pixels (COCO: of the mask), else those of the boxes.
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
class DetectionData:
    """A split of a data set: records, class names, and the faults detected while reading.

    Attributes:
        records: One per usable image, including images without objects.
        class_names: Names in label order.
        issues: Faults that were skipped or corrected; empty for clean data.
        category_ids: The data set's own ids of the classes (COCO: sparse), in label order.
    """

    records: Sequence[ImageRecord]
    class_names: tuple[str, ...]
    issues: tuple[DataIssue, ...] = ()
    category_ids: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.records)


def join_data(splits: Sequence[DetectionData]) -> DetectionData:
    """Concatenates splits or data sets of the same classes.

    Raises:
        DataError: The classes differ.
    """
    first = splits[0]
    for split in splits[1:]:
        if split.class_names != first.class_names:
            raise DataError(
                f"Expected data of the classes {list(first.class_names)} to join, got {list(split.class_names)}. "
                "Load each with class_names= of the first."
            )
    records = [record for split in splits for record in split.records]
    issues = tuple(issue for split in splits for issue in split.issues)
    return DetectionData(records, first.class_names, issues, first.category_ids)
