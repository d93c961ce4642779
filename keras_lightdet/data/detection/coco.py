"""COCO annotation files: a JSON of images, categories and xywh boxes, with the images in a folder beside it."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_lightdet.data.detection.records import DetectionData, ImageRecord
from keras_lightdet.data.detection.validation import (
    IssueLog,
    clean_boxes,
    finish,
    join_inside,
    make_record,
    reconcile_size,
    try_read_header,
)
from keras_lightdet.errors import DataError

MAX_JSON_BYTES = 1_000_000_000
_EXAMPLE = "an object with the lists images, annotations and categories"


def load_coco(
    annotation_file: str | Path,
    image_dir: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    strict: bool = False,
) -> DetectionData:
    """Reads a COCO annotation file.

    Sparse category ids become labels from 0 in the order of the ids. Crowd boxes are marked `ignore`. Images without
    annotations are kept. Areas are the file's (of the mask), else the box's.

    Args:
        annotation_file: The JSON.
        image_dir: The folder that `file_name` is relative to; names may not leave it.
        class_names: Label order, as saved with weights; must be the file's category names in any order.
        strict: Raise at the first fault, and decode every image once, instead of skipping what is damaged.

    Returns:
        Records in the file's order.

    Raises:
        DataError: The file is damaged or no COCO file, `class_names` differ, nothing is usable, or (strict) any fault.
    """
    path, folder = Path(annotation_file), Path(image_dir)
    content = _read_json(path)
    ids, names = _categories(path, content["categories"], class_names)
    log = IssueLog(strict)
    images = _images(path, content["images"], log)
    annotations = _annotations_by_image(path, content["annotations"], images, set(ids), log)
    labels = {category: label for label, category in enumerate(ids)}
    records = []
    for image_id, image in images.items():
        record = _record(path, folder, image, annotations.get(image_id, []), labels, log)
        records += [record] if record else []
    return finish(records, names, log, path, ids)


def _read_json(path: Path) -> dict:
    """Parses the file; outlines of masks, which no detector here reads, are dropped while parsing."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise DataError(f"Expected {str(path)!r} to be at most {MAX_JSON_BYTES} bytes. Split it.")
        with open(path, encoding="utf-8") as file:
            content = json.load(file, object_hook=_without_masks)
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        reason = f"{type(error).__name__}: {error}"[:200]
        raise DataError(f"Expected {str(path)!r} to be a COCO JSON file, got {reason}. Export it again.") from error
    if not isinstance(content, dict):
        raise DataError(f"Expected {str(path)!r} to be {_EXAMPLE}, got a {type(content).__name__}. Export it as COCO.")
    for key in ("images", "annotations", "categories"):
        entries = content.get(key)
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise DataError(
                f"Expected {str(path)!r} to be {_EXAMPLE}, but {key!r} is none. Export it as COCO detection."
            )
    return content


def _without_masks(entry: dict) -> dict:
    entry.pop("segmentation", None)
    return entry


def _is_id(value) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _categories(path: Path, entries: list[dict], given: Sequence[str] | None) -> tuple[list[int], list[str]]:
    """Returns category ids and names in label order."""
    for entry in entries:
        if not isinstance(entry.get("id"), int) or not isinstance(entry.get("name"), str):
            raise DataError(
                f"Expected every category in {str(path)!r} to have an integer id and a name, got {entry!r:.200}."
            )
    entries = sorted(entries, key=lambda entry: entry["id"])
    ids, names = [entry["id"] for entry in entries], [entry["name"] for entry in entries]
    if not names or len(set(ids)) < len(ids) or len(set(names)) < len(names):
        raise DataError(f"Expected categories with ids and names that occur once in {str(path)!r}, got {names!r:.500}.")
    if given is None:
        return ids, names
    if sorted(given) != sorted(names):
        raise DataError(
            f"Expected the categories in {str(path)!r} to be {list(given)}, got {names}. "
            "Use weights that were trained on these classes, or load the trunk alone."
        )
    by_name = dict(zip(names, ids, strict=True))
    return [by_name[name] for name in given], list(given)


def _images(path: Path, entries: list[dict], log: IssueLog) -> dict:
    images = {}
    for entry in entries:
        image_id, name = entry.get("id"), entry.get("file_name")
        if not _is_id(image_id) or not isinstance(name, str):
            log.report("image entry", path, f"{entry!r:.200} needs an id and a file_name, skipped")
        elif image_id in images:
            log.report("image id twice", path, f"image id {image_id!r:.80} ({name!r:.80}) occurs again, taken once")
        else:
            images[image_id] = entry
    return images


def _annotations_by_image(path: Path, entries: list[dict], images: dict, categories: set, log: IssueLog) -> dict:
    """Groups the usable annotations by image; each that is not usable is reported."""
    grouped, seen = defaultdict(list), {}
    for entry in entries:
        name = f"annotation {entry.get('id')!r:.80}"
        image_id, category, box = entry.get("image_id"), entry.get("category_id"), entry.get("bbox")
        numbers = isinstance(box, list) and len(box) == 4 and all(isinstance(v, (int, float)) for v in box)
        if not _is_id(image_id) or image_id not in images:
            log.report("unknown image id", path, f"{name} is of image {image_id!r:.80}, which is not listed, dropped")
        elif not isinstance(category, int) or category not in categories:
            log.report("unknown category id", path, f"{name} has category {category!r:.80}, not listed, dropped")
        elif not numbers:
            log.report("box missing", path, f"{name} has the bbox {box!r:.80}, not four numbers, dropped")
        elif _is_id(entry.get("id")) and seen.get(entry["id"]) == (image_id, category, box):
            log.report("annotation twice", path, f"{name} occurs again with the same box, taken once")
        else:
            grouped[image_id].append(entry)
            if _is_id(entry.get("id")):
                seen[entry["id"]] = (image_id, category, box)
    return grouped


def _record(
    path: Path, folder: Path, image: dict, entries: list[dict], labels: dict, log: IssueLog
) -> ImageRecord | None:
    picture = join_inside(folder, image["file_name"])
    if picture is None:
        log.report("path escape", path, f"file_name {image['file_name']!r:.200} would leave {str(folder)!r}, skipped")
        return None
    header = try_read_header(picture, log)
    if header is None:
        return None
    xywh = np.float64([[_float(value) for value in entry["bbox"]] for entry in entries]).reshape(-1, 4)
    xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=-1)
    stated = tuple(
        value if isinstance(value, (int, float)) else 0 for value in (image.get("width"), image.get("height"))
    )
    xyxy = reconcile_size(header, stated, xyxy, path, log)
    names = [f"annotation {entry.get('id')!r:.80} of {image['file_name']!r:.200}" for entry in entries]
    boxes, kept = clean_boxes(xyxy, header.displayed_size, path, log, names)
    entries = [entries[position] for position in kept]
    own = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    areas = [_float(entry.get("area")) for entry in entries]
    areas = [area if 0 <= area < np.inf else box_area for area, box_area in zip(areas, own, strict=True)]
    crowd = [entry.get("iscrowd") == 1 for entry in entries]
    return make_record(picture, image["id"], header, boxes, [labels[e["category_id"]] for e in entries], crowd, areas)


def _float(value) -> float:
    """A number of the file as float; NaN where it is none, infinity where it does not fit."""
    if not isinstance(value, (int, float)):
        return float("nan")
    try:
        return float(value)
    except OverflowError:
        return float("inf")
