"""COCO annotation files: a JSON file of images, categories and xywh boxes, and a folder of images."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

import numpy as np

from keras_lightdet.data.detection.records import DetectionData
from keras_lightdet.data.detection.validation import RawRecord, build_dataset, join_inside
from keras_lightdet.data.issues import IssueLog
from keras_lightdet.errors import DataError
from keras_lightdet.files import StrPath, expand_user

MAX_JSON_BYTES = 1_000_000_000
_EXAMPLE = "an object with the lists images, annotations and categories"
Entry: TypeAlias = dict[str, Any]  # an image, an annotation or a category as the file has it: no value is trusted
ImageId: TypeAlias = int | str


def load_coco(
    annotation_file: StrPath, image_dir: StrPath, *, class_names: Sequence[str] | None = None, strict: bool = False
) -> DetectionData:
    """Reads a COCO annotation file.

    Sparse category ids become labels from 0 in the order of the ids. Crowd boxes are marked `ignore`. Images without
    annotations are kept. Areas are the file's (of the mask), else the box's.

    Args:
        annotation_file: The JSON file.
        image_dir: The folder that `file_name` is relative to; names that leave it are refused.
        class_names: Label order, as saved with weights; the file's category names in any order.
        strict: See `load_detection`.

    Returns:
        Records in the file's order.

    Raises:
        DataError: The file is damaged or not COCO, `class_names` differ, nothing is usable, or (strict) any fault.
    """
    path, folder = expand_user(annotation_file), expand_user(image_dir)
    content = _read_json(path)
    ids, names = _categories(path, content["categories"], class_names)
    labels = {category_id: label for label, category_id in enumerate(ids)}
    log = IssueLog(strict)
    images = _images(path, content["images"], log)
    annotations = _annotations_by_image(path, content["annotations"], images, labels, log)
    raw_records = _raw_records(path, folder, images, annotations, labels, log)
    return build_dataset(raw_records, names, log, path, ids)


def _read_json(path: Path) -> dict[str, list[Entry]]:
    """Parses the file without the outlines of masks, which no detector needs."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise DataError(f"Expected {str(path)!r} to be at most {MAX_JSON_BYTES} bytes. Split it.")
        with open(path, encoding="utf-8") as file:
            content = json.load(file, object_hook=_without_mask)
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
                f"Expected {str(path)!r} to be {_EXAMPLE}, but {key!r} is not a list of objects. "
                "Export it as COCO detection."
            )
    return content


def _without_mask(entry: Entry) -> Entry:
    entry.pop("segmentation", None)
    return entry


def _is_id(value: object) -> TypeGuard[ImageId]:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _categories(path: Path, entries: list[Entry], expected: Sequence[str] | None) -> tuple[list[int], list[str]]:
    """Returns category ids and names in label order."""
    for entry in entries:
        if not isinstance(entry.get("id"), int) or not isinstance(entry.get("name"), str):
            raise DataError(
                f"Expected every category in {str(path)!r} to have an integer id and a name, got {entry!r:.200}."
            )
    entries = sorted(entries, key=lambda entry: entry["id"])
    ids, names = [entry["id"] for entry in entries], [entry["name"] for entry in entries]
    if not names or len(set(ids)) < len(ids) or len(set(names)) < len(names):
        raise DataError(f"Expected categories with unique ids and names in {str(path)!r}, got {names!r:.500}.")
    if expected is None:
        return ids, names
    if sorted(expected) != sorted(names):
        raise DataError(
            f"Expected the categories in {str(path)!r} to be {list(expected)}, got {names}. "
            "Use weights that were trained on these classes, or load the backbone only."
        )
    ids_by_name = dict(zip(names, ids, strict=True))
    return [ids_by_name[name] for name in expected], list(expected)


def _images(path: Path, entries: list[Entry], log: IssueLog) -> dict[ImageId, Entry]:
    """Returns the usable images by id; the others are reported."""
    images: dict[ImageId, Entry] = {}
    for entry in entries:
        image_id, name = entry.get("id"), entry.get("file_name")
        if not _is_id(image_id) or not isinstance(name, str):
            log.report("image entry", path, f"{entry!r:.200} needs an id and a file_name, skipped")
        elif image_id in images:
            log.report("image id twice", path, f"image id {image_id!r:.80} ({name!r:.80}) occurs again, used once")
        else:
            images[image_id] = entry
    return images


def _annotations_by_image(
    path: Path, entries: list[Entry], images: Mapping[ImageId, Entry], labels: Mapping[int, int], log: IssueLog
) -> dict[ImageId, list[Entry]]:
    """Groups the usable annotations by image; the others are reported."""
    grouped: dict[ImageId, list[Entry]] = defaultdict(list)
    seen: dict[ImageId, tuple[Any, ...]] = {}
    for entry in entries:
        name = f"annotation {entry.get('id')!r:.80}"
        image_id, category, box = entry.get("image_id"), entry.get("category_id"), entry.get("bbox")
        has_box = isinstance(box, list) and len(box) == 4 and all(isinstance(v, (int, float)) for v in box)
        if not _is_id(image_id) or image_id not in images:
            log.report("unknown image id", path, f"{name} is of image {image_id!r:.80}, which is not listed, dropped")
        elif not isinstance(category, int) or category not in labels:
            log.report("unknown category id", path, f"{name} has category {category!r:.80}, not listed, dropped")
        elif not has_box:
            log.report("box missing", path, f"{name} has the bbox {box!r:.80}, not four numbers, dropped")
        elif _is_id(entry.get("id")) and seen.get(entry["id"]) == (image_id, category, box):
            log.report("annotation twice", path, f"{name} occurs again with the same box, used once")
        else:
            grouped[image_id].append(entry)
            if _is_id(entry.get("id")):
                seen[entry["id"]] = (image_id, category, box)
    return grouped


def _raw_records(
    path: Path,
    folder: Path,
    images: Mapping[ImageId, Entry],
    annotations: Mapping[ImageId, list[Entry]],
    labels: Mapping[int, int],
    log: IssueLog,
) -> Iterator[RawRecord]:
    """Yields the records of all images; one outside the image folder is reported and left out."""
    for image_id, image in images.items():
        file = join_inside(folder, image["file_name"])
        if file is None:
            log.report(
                "path escape", path, f"file_name {image['file_name']!r:.200} would leave {str(folder)!r}, skipped"
            )
            continue
        entries = annotations.get(image_id, [])
        boxes = np.array([[_number(value) for value in entry["bbox"]] for entry in entries]).reshape(-1, 4)
        yield RawRecord(
            path=file,
            image_id=image_id,
            source=path,
            names=[f"annotation {entry.get('id')!r:.80} of {image['file_name']!r:.200}" for entry in entries],
            boxes=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=-1),
            labels=[labels[entry["category_id"]] for entry in entries],
            ignore=[entry.get("iscrowd") == 1 for entry in entries],
            areas=[_number(entry.get("area")) for entry in entries],
            stated_size=(_number(image.get("width"), 0.0), _number(image.get("height"), 0.0)),
        )


def _number(value: object, default: float = float("nan")) -> float:
    """Returns a number of the file as a float: `default` where it is none, infinity where it does not fit."""
    if not isinstance(value, (int, float)):
        return default
    try:
        return float(value)
    except OverflowError:
        return float("inf")
