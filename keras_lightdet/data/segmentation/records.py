"""The form into which all segmentation data sets are read: records of images and their label images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_lightdet.data.issues import DataIssue
from keras_lightdet.data.segmentation.label_table import LabelTable
from keras_lightdet.errors import DataError


@dataclass(frozen=True)
class SegmentationRecord:
    """One image and its label image.

    Attributes:
        path: The image file.
        label_path: The file of its labels, of the same size.
        width: Pixels, with the EXIF orientation applied.
        height: Pixels, with the EXIF orientation applied.
    """

    path: str
    label_path: str
    width: int
    height: int


@dataclass(frozen=True)
class SegmentationData:
    """A split of a data set: records, the meaning of their label images, and the faults detected while reading."""

    records: Sequence[SegmentationRecord]
    table: LabelTable
    issues: tuple[DataIssue, ...] = ()

    def __len__(self) -> int:
        return len(self.records)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in label order."""
        return self.table.class_names

    def read_labels(self, index: int) -> np.ndarray:
        """Reads the labels of a record, uint8 `[height, width]` of its size.

        Raises:
            DataError: The file cannot be read, has another size, or has values or colors that are not in the table.
        """
        record = self.records[index]
        labels = self.table.read(record.label_path)
        if labels.shape != (record.height, record.width):
            raise DataError(
                f"Expected {record.label_path!r} to be {record.width} x {record.height} pixels as {record.path!r}, got "
                f"{labels.shape[1]} x {labels.shape[0]}. Save it at the image's size."
            )
        return labels
