"""Decodes all label images before training: counts the classes and detects faulty files."""

from dataclasses import dataclass

import numpy as np

from keras_lightdet.data.issues import DataIssue
from keras_lightdet.data.segmentation.records import SegmentationData
from keras_lightdet.errors import DataError
from keras_lightdet.labels import IGNORE

_MAX_SHOWN = 10


@dataclass(frozen=True)
class LabelReport:
    """The statistics of a split's label images.

    Attributes:
        class_names: Names in label order.
        pixels: Int64 `[K]`, number of pixels of each class.
        images: Int64 `[K]`, number of images with that class.
        ignored: Number of pixels to ignore.
        faults: Label images that cannot be used: damaged, of another size, or with unlisted values or colors.
    """

    class_names: tuple[str, ...]
    pixels: np.ndarray
    images: np.ndarray
    ignored: int
    faults: tuple[DataIssue, ...]

    def table(self) -> str:
        """Returns the histogram as text, shares in percent of all pixels."""
        total = max(int(self.pixels.sum()) + self.ignored, 1)
        names, counts = (*self.class_names, "(ignored)"), (*self.pixels.tolist(), self.ignored)
        width, digits = max(map(len, names)), len(str(max(counts)))
        suffixes = [*(f"  in {images} images" for images in self.images.tolist()), ""]
        return "\n".join(
            f"{name:{width}} {count:{digits}} pixels {100 * count / total:7.3f} %{suffix}"
            for name, count, suffix in zip(names, counts, suffixes, strict=True)
        )

    def raise_on_faults(self) -> None:
        """Raises a `DataError` that names the faulty label images, if there are any."""
        if not self.faults:
            return
        details = "".join(f"\n  {fault.detail}" for fault in self.faults[:_MAX_SHOWN])
        more = f"\n  and {len(self.faults) - _MAX_SHOWN} more" if len(self.faults) > _MAX_SHOWN else ""
        raise DataError(f"Expected valid label images, got {len(self.faults)} that are not:{details}{more}")


def inspect_labels(data: SegmentationData) -> LabelReport:
    """Decodes all label images of a split once."""
    num_classes = len(data.class_names)
    pixels, images = np.zeros(num_classes, np.int64), np.zeros(num_classes, np.int64)
    ignored, faults = 0, []
    for index, record in enumerate(data.records):
        try:
            counts = np.bincount(data.read_labels(index).ravel(), minlength=IGNORE + 1)
        except DataError as error:
            faults.append(DataIssue("labels", record.label_path, str(error)))
            continue
        pixels += counts[:num_classes]
        images += counts[:num_classes] > 0
        ignored += int(counts[IGNORE])
    return LabelReport(data.class_names, pixels, images, ignored, tuple(faults))
