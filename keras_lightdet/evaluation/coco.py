"""The twelve figures of COCO, computed by pycocotools.

Where pycocotools gives -1, because there are no objects of a class or size, the figure is NaN. No detections at all
give 0.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, TypeAlias

import numpy as np

from keras_lightdet.data import DetectionData
from keras_lightdet.detection import Detections
from keras_lightdet.errors import DataError
from keras_lightdet.evaluation.checks import check_evaluation_input, join_arrays
from keras_lightdet.evaluation.coco_result import CocoResult
from keras_lightdet.evaluation.coco_run import ClassEntries, CocoEntry, run_pycocotools

JsonObject: TypeAlias = Mapping[str, Any]


def evaluate_coco(data: DetectionData, detections: Sequence[Detections]) -> CocoResult:
    """Evaluates detections by the rules of COCO.

    Images have their own ids if those are distinct integers, else their positions from 1; classes have
    `data.category_ids`, else ids from 1. With the ids of the data set, ties are broken as in the official figures.
    `ignore` boxes are COCO's crowds, and images without objects are included.

    Args:
        data: The labeled images.
        detections: One per record, in the records' order and pixels.

    Raises:
        DataError: Data and detections do not belong together (see `check_evaluation_input`).
        ImportError: pycocotools is not installed.
    """
    check_evaluation_input(data, detections)
    return run_pycocotools(_entries_by_class(data, detections))


def evaluate_coco_json(
    ground_truth: JsonObject, results: Sequence[JsonObject], *, image_ids: Sequence[int] | None = None
) -> CocoResult:
    """Evaluates detections in COCO's result format against a COCO annotation file.

    Args:
        ground_truth: The parsed annotation file, with "images", "annotations" and "categories". A missing `area` is
            that of the box, a missing `iscrowd` is 0.
        results: The parsed results, with "image_id", "category_id", "bbox" (x, y, width, height in pixels) and "score".
        image_ids: The images to evaluate on; None for all.

    Returns:
        The figures; classes are in the order of their ids.

    Raises:
        DataError: A key is missing, a number is not finite, or an id is not among the images and categories.
        ImportError: pycocotools is not installed.
    """
    annotations: dict[int, list[CocoEntry]] = defaultdict(list)
    detections: dict[int, list[CocoEntry]] = defaultdict(list)
    try:
        known = {int(image["id"]) for image in ground_truth["images"]}
        names = {int(c["id"]): str(c["name"]) for c in sorted(ground_truth["categories"], key=lambda c: int(c["id"]))}
        evaluated = known if image_ids is None else {int(i) for i in image_ids}
        for entry in ground_truth["annotations"]:
            box = _checked_box(entry, known, names)
            (area,) = _finite(entry, [entry.get("area", box[2] * box[3])])
            if entry["image_id"] in evaluated:
                crowd = int(entry.get("iscrowd", 0))
                annotations[entry["category_id"]].append(_object(entry["image_id"], box, area, crowd))
        for entry in results:
            box = _checked_box(entry, known, names)
            (score,) = _finite(entry, [entry["score"]])
            if entry["image_id"] in evaluated:
                detections[entry["category_id"]].append(_detection(entry["image_id"], box, score))
    except DataError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise DataError(
            f"Expected COCO annotations and results with their standard keys, got {error!r}. "
            "See cocodataset.org/#format-data and #format-results."
        ) from error
    if not evaluated <= known or not names:
        raise DataError(
            f"Expected image_ids and categories from the annotations, got {sorted(evaluated - known)[:5]} and "
            f"{list(names.values())}. Pass the annotations that the results belong to."
        )
    return run_pycocotools(ClassEntries(name, i, annotations[i], detections[i]) for i, name in names.items())


def _entries_by_class(data: DetectionData, detections: Sequence[Detections]) -> Iterator[ClassEntries]:
    image_ids = _image_ids(data)
    category_ids = data.category_ids or tuple(range(1, len(data.class_names) + 1))
    records = data.records
    true_labels = join_arrays([r.labels for r in records], np.int64)
    objects = (
        np.repeat(image_ids, [len(r.labels) for r in records]),
        _xywh([r.boxes for r in records]),
        join_arrays([r.areas for r in records], np.float64),
        join_arrays([r.ignore for r in records], np.int64),
    )
    labels = join_arrays([d.labels for d in detections], np.int64)
    predictions = (
        np.repeat(image_ids, [len(d) for d in detections]),
        _xywh([d.boxes for d in detections]),
        join_arrays([d.scores for d in detections], np.float64),
    )
    for label, (name, category_id) in enumerate(zip(data.class_names, category_ids, strict=True)):
        own_objects = zip(*(column[true_labels == label].tolist() for column in objects), strict=True)
        own_predictions = zip(*(column[labels == label].tolist() for column in predictions), strict=True)
        annotations = [_object(*values) for values in own_objects]
        yield ClassEntries(name, category_id, annotations, [_detection(*values) for values in own_predictions])


def _object(image_id: int, box: list[float], area: float, is_crowd: int) -> CocoEntry:
    return {"image_id": image_id, "bbox": box, "area": area, "iscrowd": is_crowd}


def _detection(image_id: int, box: list[float], score: float) -> CocoEntry:
    return {**_object(image_id, box, box[2] * box[3], 0), "score": score}


def _image_ids(data: DetectionData) -> np.ndarray:
    ids = [record.image_id for record in data.records]
    if all(isinstance(i, int | np.integer) for i in ids) and len(set(ids)) == len(ids):
        return np.array(ids, np.int64)
    return np.arange(1, len(ids) + 1)


def _xywh(boxes: Sequence[np.ndarray]) -> np.ndarray:
    joined = np.concatenate([np.zeros((0, 4)), *(np.asarray(b, np.float64) for b in boxes)])
    return np.concatenate([joined[:, :2], joined[:, 2:] - joined[:, :2]], axis=1)


def _finite(entry: JsonObject, values: Sequence[Any]) -> list[float]:
    numbers = [float(value) for value in values]
    if not all(map(math.isfinite, numbers)):
        raise DataError(f"Expected finite numbers in all annotations and results, got {entry!r}. Fix the file.")
    return numbers


def _checked_box(entry: JsonObject, image_ids: Set[int], names: Mapping[int, str]) -> list[float]:
    if len(entry["bbox"]) != 4 or entry["image_id"] not in image_ids or entry["category_id"] not in names:
        raise DataError(
            "Expected all annotations and results to have 4 box numbers and the ids of a listed image and category, "
            f"got {entry!r}. Fix the file."
        )
    return _finite(entry, entry["bbox"])
