"""Turns what the readers of all formats return, raw records, into a data set of valid boxes; reports all faults."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from keras_lightdet.data.detection.records import DetectionData, ImageRecord
from keras_lightdet.data.issues import IssueLog
from keras_lightdet.errors import DataError
from keras_lightdet.images import ImageHeader, read_header, read_image

# A box outside the image by at most this was rounded, or counted from 0 instead of 1: it is clipped without an issue.
ROUNDING_PIXELS = 1.0
NO_CLASS = -1


@dataclass(frozen=True)
class RawRecord:
    """One image and its boxes as the files of a data set state them.

    Attributes:
        path: The image file.
        image_id: The data set's id of the image.
        source: The file that states the labels; named in issues.
        names: What to call each of the n boxes in an issue, such as "object 12".
        boxes: `[n, 4]`, `(x_min, y_min, x_max, y_max)`; may hold NaN and infinity, and lie outside the image.
        labels: `[n]` class indices, or `NO_CLASS`.
        ignore: Bool `[n]`.
        areas: `[n]` square pixels, NaN where not stated; None where no area is stated.
        stated_size: `(width, height)` of the labeled image in pixels; zeros where not stated.
        first_pixel: Number of the first pixel: 1 in VOC, where the last pixel belongs to the box; else 0.
        relative: Whether the boxes are fractions of the stored image's width and height.
    """

    path: Path
    image_id: str | int
    source: Path
    names: Sequence[str]
    boxes: np.ndarray
    labels: Sequence[int]
    ignore: Sequence[bool]
    areas: Sequence[float] | None = None
    stated_size: tuple[float, float] = (0, 0)
    first_pixel: float = 0.0
    relative: bool = False


def build_dataset(
    raw_records: Iterable[RawRecord],
    class_names: Sequence[str],
    log: IssueLog,
    source: Path,
    category_ids: Sequence[int] = (),
) -> DetectionData:
    """Validates raw records and, in strict mode, decodes every image once.

    An image that cannot be read is skipped. Its boxes are converted to pixels of the upright image and clipped; boxes
    that are not finite, have no area, no class, or lie outside the image are dropped.

    Args:
        raw_records: The reader's result.
        class_names: Names in label order.
        log: Collects the faults, or raises the first one.
        source: The data set, for the error message.
        category_ids: The data set's own ids of the classes.

    Raises:
        DataError: No image is usable; or, in strict mode, there is any fault.
    """
    records = [record for record in (_validate(raw, log) for raw in raw_records) if record is not None]
    if not records:
        reason = "; ".join(f"{issue.path}: {issue.detail}" for issue in log.issues[:3]) or "no image is listed"
        raise DataError(
            f"Expected usable images in {str(source)!r}, found none ({reason}). Correct the data or the split."
        )
    if log.strict:
        for record in records:
            read_image(record.path)
    return DetectionData(tuple(records), tuple(class_names), tuple(log.issues), tuple(category_ids))


def join_inside(folder: Path, name: str) -> Path | None:
    """Joins a file name from an annotation to `folder`; returns None where the name would leave the folder."""
    pure = PurePosixPath(name.replace("\\", "/"))
    if not name or "\0" in name or pure.is_absolute() or ".." in pure.parts or ":" in pure.parts[0]:
        return None
    return folder / pure


def _validate(raw: RawRecord, log: IssueLog) -> ImageRecord | None:
    """Returns the record with its valid boxes; None where the image cannot be read."""
    try:
        header = read_header(raw.path)
    except DataError as error:
        log.report("image unreadable", raw.path, error)
        return None
    boxes, kept = _clean_boxes(raw, header, log)
    box_areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    areas = box_areas if raw.areas is None else np.asarray(raw.areas, np.float64)[kept]
    width, height = header.displayed_size
    return ImageRecord(
        path=str(raw.path),
        image_id=raw.image_id,
        width=width,
        height=height,
        boxes=boxes,
        labels=np.asarray(raw.labels, np.int32)[kept],
        ignore=np.asarray(raw.ignore, bool)[kept],
        areas=np.where((areas >= 0) & (areas < np.inf), areas, box_areas).astype(np.float32),
    )


def _clean_boxes(raw: RawRecord, header: ImageHeader, log: IssueLog) -> tuple[np.ndarray, np.ndarray]:
    """Returns the valid boxes, float32 `[m, 4]` inside the upright image, and their positions, int64 `[m]`."""
    stated = np.asarray(raw.boxes, np.float64).reshape(-1, 4)
    if raw.relative:
        stated = stated * np.array([header.width, header.height] * 2)
    upright = _upright_boxes(stated - [raw.first_pixel, raw.first_pixel, 0.0, 0.0], raw, header, log)
    width, height = header.displayed_size
    cleaned, kept = [], []
    for position, (name, label, corners, box) in enumerate(
        zip(raw.names, raw.labels, stated.tolist(), upright.tolist(), strict=True)
    ):
        if label == NO_CLASS:
            log.report("no class name", raw.source, f"{name} has no class name, dropped")
            continue
        if not all(math.isfinite(value) for value in corners):
            log.report("box not finite", raw.source, f"{name} has the box {_text(corners)}, dropped")
            continue
        # As stated: counted from 1, a box without width would get one pixel, but is an annotator's slip.
        if corners[2] <= corners[0] or corners[3] <= corners[1]:
            log.report("box without area", raw.source, f"{name} has the box {_text(corners)}, dropped")
            continue
        place = f"{name} has the box {_text(box)} in {width} x {height}"
        clipped = (max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(width)), min(box[3], float(height)))
        if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
            log.report("box outside", raw.source, f"{place}, dropped")
            continue
        if max(abs(a - b) for a, b in zip(clipped, box, strict=True)) > ROUNDING_PIXELS:
            log.report("box clipped", raw.source, f"{place}, clipped")
        cleaned.append(clipped)
        kept.append(position)
    return np.array(cleaned, np.float32).reshape(-1, 4), np.array(kept, np.int64)


def _upright_boxes(boxes: np.ndarray, raw: RawRecord, header: ImageHeader, log: IssueLog) -> np.ndarray:
    """Returns float64 boxes `[n, 4]` in pixels of the upright image; reports a stated size that does not fit."""
    if raw.relative:
        return _turn_boxes(boxes, header)
    if not all(raw.stated_size) or tuple(raw.stated_size) == header.displayed_size:
        return boxes
    if tuple(raw.stated_size) == (header.width, header.height):
        log.report("boxes on the unrotated image", raw.source, "the boxes were turned by the image's EXIF orientation")
        return _turn_boxes(boxes, header)
    (stated_width, stated_height), (width, height) = raw.stated_size, header.displayed_size
    detail = f"states {stated_width:g} x {stated_height:g}, the image has {width} x {height}"
    log.report("size differs", raw.source, detail)
    return boxes


def _turn_boxes(boxes: np.ndarray, header: ImageHeader) -> np.ndarray:
    """Moves boxes `[n, 4]` from the stored image to the upright one."""
    x0, y0, x1, y1 = boxes.T
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


def _text(box: Sequence[float]) -> str:
    return f"({', '.join(f'{value:.6g}' for value in box)})"
