"""Looks at every label picture before training: how often each class occurs, and what is not in the list."""

from dataclasses import dataclass

import numpy as np

from keras_lightdet.data.records import DataIssue
from keras_lightdet.data.segmentation_data import SegmentationData
from keras_lightdet.errors import DataError
from keras_lightdet.segmentation import IGNORE

_SHOWN = 10


@dataclass(frozen=True)
class LabelReport:
    """What label pictures hold.

    Attributes:
        class_names: Names in label order.
        pixels: Int64 `[K]`, pixels of each class.
        pictures: Int64 `[K]`, pictures that have any of them.
        ignored: Pixels to ignore.
        faults: Label pictures that cannot be used: damaged, of another size, or with what is not in the list.
    """

    class_names: tuple[str, ...]
    pixels: np.ndarray
    pictures: np.ndarray
    ignored: int
    faults: tuple[DataIssue, ...]

    def table(self) -> str:
        """Returns the histogram as text, shares in percent of all pixels."""
        total = max(int(self.pixels.sum()) + self.ignored, 1)
        names, counts = (*self.class_names, "(ignored)"), (*self.pixels.tolist(), self.ignored)
        width, digits = max(map(len, names)), len(str(max(counts)))
        seen = [*(f"  in {pictures} pictures" for pictures in self.pictures.tolist()), ""]
        return "\n".join(
            f"{name:{width}} {count:{digits}} pixels {100 * count / total:7.3f} %{where}"
            for name, count, where in zip(names, counts, seen, strict=True)
        )

    def require_sound(self) -> None:
        """Raises a `DataError` that names the faulty label pictures, if there are any."""
        if not self.faults:
            return
        named = "".join(f"\n  {fault.detail}" for fault in self.faults[:_SHOWN])
        more = f"\n  and {len(self.faults) - _SHOWN} more" if len(self.faults) > _SHOWN else ""
        raise DataError(f"Expected sound label pictures, got {len(self.faults)} that are not:{named}{more}")


def inspect_labels(data: SegmentationData) -> LabelReport:
    """Decodes all label pictures of a split once."""
    count = len(data.class_names)
    pixels, pictures, ignored, faults = np.zeros(count, np.int64), np.zeros(count, np.int64), 0, []
    for index, record in enumerate(data.records):
        try:
            found = np.bincount(data.read_labels(index).ravel(), minlength=IGNORE + 1)
        except DataError as error:
            faults.append(DataIssue("labels", record.label_path, str(error)))
            continue
        pixels += found[:count]
        pictures += found[:count] > 0
        ignored += int(found[IGNORE])
    return LabelReport(data.class_names, pixels, pictures, ignored, tuple(faults))
