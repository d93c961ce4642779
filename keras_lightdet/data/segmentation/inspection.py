"""Looks at every label image before training: how often each class occurs, and what is not in the list."""

from dataclasses import dataclass

import numpy as np

from keras_lightdet.data.detection.records import DataIssue
from keras_lightdet.data.segmentation.loading import SegmentationData
from keras_lightdet.errors import DataError
from keras_lightdet.labels import IGNORE

_SHOWN = 10


@dataclass(frozen=True)
class LabelReport:
    """What label images hold.

    Attributes:
        class_names: Names in label order.
        pixels: Int64 `[K]`, pixels of each class.
        images: Int64 `[K]`, images that have any of them.
        ignored: Pixels to ignore.
        faults: Label images that cannot be used: damaged, of another size, or with what is not in the list.
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
        seen = [*(f"  in {images} images" for images in self.images.tolist()), ""]
        return "\n".join(
            f"{name:{width}} {count:{digits}} pixels {100 * count / total:7.3f} %{where}"
            for name, count, where in zip(names, counts, seen, strict=True)
        )

    def raise_on_faults(self) -> None:
        """Raises a `DataError` that names the faulty label images, if there are any."""
        if not self.faults:
            return
        named = "".join(f"\n  {fault.detail}" for fault in self.faults[:_SHOWN])
        more = f"\n  and {len(self.faults) - _SHOWN} more" if len(self.faults) > _SHOWN else ""
        raise DataError(f"Expected sound label images, got {len(self.faults)} that are not:{named}{more}")


def inspect_labels(data: SegmentationData) -> LabelReport:
    """Decodes all label images of a split once."""
    count = len(data.class_names)
    pixels, images, ignored, faults = np.zeros(count, np.int64), np.zeros(count, np.int64), 0, []
    for index, record in enumerate(data.records):
        try:
            found = np.bincount(data.read_labels(index).ravel(), minlength=IGNORE + 1)
        except DataError as error:
            faults.append(DataIssue("labels", record.label_path, str(error)))
            continue
        pixels += found[:count]
        images += found[:count] > 0
        ignored += int(found[IGNORE])
    return LabelReport(data.class_names, pixels, images, ignored, tuple(faults))
