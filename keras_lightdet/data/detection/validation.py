"""What the readers of all data sets share: collecting issues, cleaning boxes, joining names to folders safely."""

import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from keras_lightdet.data.detection.records import DataIssue, DetectionData, ImageRecord
from keras_lightdet.errors import DataError
from keras_lightdet.images import ImageHeader, read_header, read_image

# A box that leaves the image by no more than this was rounded or counted from 0 instead of 1: clipped in silence.
ROUNDING_PIXELS = 1.0


class IssueLog:
    """Collects what is wrong in a data set, or raises at the first fault.

    Args:
        strict: Raise `DataError` at once instead of collecting.
    """

    def __init__(self, strict: bool = False):
        self.strict = strict
        self.issues: list[DataIssue] = []

    def report(self, kind: str, path: str | Path, detail: str) -> None:
        """Notes one fault.

        Raises:
            DataError: In strict mode.
        """
        if self.strict:
            raise DataError(f"{path}: {detail} ({kind}). Mend the file, or load without strict to skip it.")
        self.issues.append(DataIssue(kind, str(path), detail))


def clean_boxes(
    boxes: Sequence[Sequence[float]],
    size: tuple[int, int],
    path: str | Path,
    log: IssueLog,
    names: Sequence[str],
) -> tuple[np.ndarray, np.ndarray]:
    """Clips boxes to the image and drops those that are no box.

    Args:
        boxes: `[n][4]` xyxy in pixels of the image; may hold NaN, infinity and boxes outside.
        size: `(width, height)` of the image.
        path: The annotation file, for the issues.
        log: Takes one issue per box that is dropped or loses more than `ROUNDING_PIXELS` on a side.
        names: What to call each box in an issue, such as "object 12".

    Returns:
        `(boxes, kept)`: float32 `[m, 4]` inside the image, and the int64 `[m]` positions they had.
    """
    width, height = size
    cleaned, kept = [], []
    for position, box in enumerate(boxes):
        name = names[position]
        shown = ", ".join(f"{value:.6g}" for value in box)
        if not all(math.isfinite(value) for value in box):
            log.report("box not finite", path, f"{name} has the box ({shown}), dropped")
            continue
        if box[2] <= box[0] or box[3] <= box[1]:
            log.report("box without area", path, f"{name} has the box ({shown}), dropped")
            continue
        inside = (max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(width)), min(box[3], float(height)))
        if inside[2] <= inside[0] or inside[3] <= inside[1]:
            log.report("box outside", path, f"{name} has the box ({shown}) in {width} x {height}, dropped")
            continue
        if max(abs(a - b) for a, b in zip(inside, box, strict=True)) > ROUNDING_PIXELS:
            log.report("box clipped", path, f"{name} has the box ({shown}) in {width} x {height}, clipped")
        cleaned.append(inside)
        kept.append(position)
    return np.float32(cleaned).reshape(-1, 4), np.int64(kept)


def reconcile_size(
    header: ImageHeader, stated: tuple[float, float], boxes: np.ndarray, path: str | Path, log: IssueLog
) -> np.ndarray:
    """Turns boxes that were drawn on the image as stored, and reports sizes that do not fit.

    Args:
        header: The image's header.
        stated: `(width, height)` the annotation claims; zeros where it claims none.
        boxes: Float64 `[n, 4]` xyxy, in pixels of the image that was labeled.
        path: The annotation file.
        log: Takes an issue when `stated` is the size before the EXIF turn, or no size of this image at all.

    Returns:
        Boxes in pixels of the upright image.
    """
    if not all(stated) or tuple(stated) == header.displayed_size:
        return boxes
    if tuple(stated) == (header.width, header.height):
        log.report("boxes on the unrotated image", path, "the boxes were turned by the image's EXIF orientation")
        return turn_boxes(boxes, header)
    width, height = header.displayed_size
    log.report("size differs", path, f"states {stated[0]:g} x {stated[1]:g}, the image has {width} x {height}")
    return boxes


def turn_boxes(boxes: np.ndarray, header: ImageHeader) -> np.ndarray:
    """Moves xyxy boxes `[n, 4]` from the stored image to the upright one."""
    x0, y0, x1, y1 = np.asarray(boxes, np.float64).reshape(-1, 4).T
    w, h = header.width, header.height
    turned = {
        1: (x0, y0, x1, y1),
        2: (w - x1, y0, w - x0, y1),
        3: (w - x1, h - y1, w - x0, h - y0),
        4: (x0, h - y1, x1, h - y0),
        5: (y0, x0, y1, x1),
        6: (h - y1, x0, h - y0, x1),
        7: (h - y1, w - x1, h - y0, w - x0),
        8: (y0, w - x1, y1, w - x0),
    }[header.orientation]
    return np.stack(turned, axis=-1)


def join_inside(folder: Path, name: str) -> Path | None:
    """Joins a file name from an annotation to `folder`; None where the name would leave the folder."""
    pure = PurePosixPath(name.replace("\\", "/"))
    if not name or "\0" in name or pure.is_absolute() or ".." in pure.parts or ":" in pure.parts[0]:
        return None
    return folder / pure


def make_record(path: Path, image_id: str | int, header: ImageHeader, boxes, labels, ignore, areas) -> ImageRecord:
    """Builds a record with the arrays' contracted types."""
    width, height = header.displayed_size
    return ImageRecord(
        path=str(path),
        image_id=image_id,
        width=width,
        height=height,
        boxes=np.asarray(boxes, np.float32).reshape(-1, 4),
        labels=np.asarray(labels, np.int32).reshape(-1),
        ignore=np.asarray(ignore, bool).reshape(-1),
        areas=np.asarray(areas, np.float32).reshape(-1),
    )


def finish(
    records: list[ImageRecord],
    class_names: Sequence[str],
    log: IssueLog,
    source: Path,
    category_ids: Sequence[int] = (),
) -> DetectionData:
    """Closes a reader: refuses data without a usable image and, in strict mode, decodes every image once.

    Raises:
        DataError: No image is usable, or (strict) one cannot be decoded.
    """
    if not records:
        why = "; ".join(f"{issue.path}: {issue.detail}" for issue in log.issues[:3]) or "no image is listed"
        raise DataError(
            f"Expected usable images in {str(source)!r}, found none ({why}). Correct the data or the split."
        )
    if log.strict:
        for record in records:
            read_image(record.path)
    return DetectionData(tuple(records), tuple(class_names), tuple(log.issues), tuple(category_ids))


def try_read_header(path: Path, log: IssueLog) -> ImageHeader | None:
    """Returns an image's header, or None where it cannot be read, which is reported.

    Raises:
        DataError: It cannot be read and the log is strict.
    """
    try:
        return read_header(path)
    except DataError as error:
        if log.strict:
            raise
        log.report("image unreadable", path, str(error))
        return None
