"""The twelve figures of COCO, computed by pycocotools itself.

Where pycocotools answers -1, because there is no object of a class or size, the answer here is NaN. No
detections at all is a score of 0.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from keras_lightdet.data.detection.records import DetectionData
from keras_lightdet.detection.detections import Detections
from keras_lightdet.errors import DataError
from keras_lightdet.evaluation.checks import check_evaluation_input, join_arrays
from keras_lightdet.evaluation.coco_result import CocoResult
from keras_lightdet.evaluation.coco_run import ClassEntries, annotation, result, run_pycocotools


def evaluate_coco(data: DetectionData, detections: Sequence[Detections]) -> CocoResult:
    """Scores detections by the rules of COCO.

    Images go in under their own ids if those are distinct integers, else under their positions from 1;
    classes under `data.category_ids`, else from 1. With the ids of the data set, even ties fall as in the
    official figures. `ignore` boxes are COCO's crowds, and an image without objects counts like any other.

    Args:
        data: The labeled images.
        detections: One per record, in the records' order and pixels.

    Raises:
        DataError: Data and detections do not belong together (see `check_evaluation_input`).
        ImportError: pycocotools is not installed.
    """
    check_evaluation_input(data, detections)
    return run_pycocotools(_entries_by_class(data, detections))


def evaluate_coco_json(truth: dict, results: Sequence[dict], *, image_ids: Sequence[int] | None = None) -> CocoResult:
    """Scores detections in COCO's result format against a COCO annotation dictionary.

    Args:
        truth: Keys "images", "annotations" and "categories", as `json.load` gives them. A missing `area` is
            taken as that of the box, a missing `iscrowd` as 0.
        results: Dictionaries with "image_id", "category_id", "bbox" (x, y, width, height in pixels) and
            "score".
        image_ids: The images to score; None is all of them.

    Returns:
        The figures; classes come in the order of their ids.

    Raises:
        DataError: A key is missing, a number is not finite, or an id is not among the images and categories.
        ImportError: pycocotools is not installed.
    """
    objects, found = defaultdict(list), defaultdict(list)
    try:
        known = {int(image["id"]) for image in truth["images"]}
        names = {int(c["id"]): str(c["name"]) for c in sorted(truth["categories"], key=lambda c: int(c["id"]))}
        chosen = known if image_ids is None else {int(i) for i in image_ids}
        for a in truth["annotations"]:
            box = _finite(a, a["bbox"])
            area = _finite(a, [a.get("area", box[2] * box[3])])[0]
            if _checked_image(a, known, names) in chosen:
                objects[a["category_id"]].append(annotation(a["image_id"], box, area, int(a.get("iscrowd", 0))))
        for r in results:
            box, score = _finite(r, r["bbox"]), _finite(r, [r["score"]])[0]
            if _checked_image(r, known, names) in chosen:
                found[r["category_id"]].append(result(r["image_id"], box, score))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"Expected COCO annotations and results with their usual keys, got {error!r}. "
            "See cocodataset.org/#format-data and #format-results."
        ) from error
    if not chosen <= known or not names:
        raise DataError(
            f"Expected image_ids and categories from the annotations, got {sorted(chosen - known)[:5]} and "
            f"{list(names.values())}. Give the annotations that the results are for."
        )
    return run_pycocotools(ClassEntries(name, i, objects[i], found[i]) for i, name in names.items())


def _entries_by_class(data: DetectionData, detections: Sequence[Detections]) -> Iterator[ClassEntries]:
    image_ids = _image_ids(data)
    category_ids = data.category_ids or tuple(range(1, len(data.class_names) + 1))
    records = data.records
    truth_images = np.repeat(image_ids, [len(r.labels) for r in records])
    truth_boxes = _xywh([r.boxes for r in records])
    truth_labels = join_arrays([r.labels for r in records], np.int64)
    crowd = join_arrays([r.ignore for r in records], np.int64)
    areas = join_arrays([r.areas for r in records], np.float64)
    images = np.repeat(image_ids, [len(d) for d in detections])
    boxes = _xywh([d.boxes for d in detections])
    labels = join_arrays([d.labels for d in detections], np.int64)
    scores = join_arrays([d.scores for d in detections], np.float64)
    for label, (name, category_id) in enumerate(zip(data.class_names, category_ids, strict=True)):
        objects, mine = np.flatnonzero(truth_labels == label), np.flatnonzero(labels == label)
        columns = (column[objects].tolist() for column in (truth_images, truth_boxes, areas, crowd))
        found = (column[mine].tolist() for column in (images, boxes, scores))
        yield ClassEntries(
            name,
            category_id,
            [annotation(*row) for row in zip(*columns, strict=True)],
            [result(*row) for row in zip(*found, strict=True)],
        )


def _image_ids(data: DetectionData) -> np.ndarray:
    ids = [record.image_id for record in data.records]
    if all(isinstance(i, int | np.integer) for i in ids) and len(set(ids)) == len(ids):
        return np.array(ids, np.int64)
    return np.arange(1, len(ids) + 1)


def _xywh(boxes: Sequence[np.ndarray]) -> np.ndarray:
    joined = np.concatenate([np.zeros((0, 4)), *(np.asarray(b, np.float64) for b in boxes)])
    return np.concatenate([joined[:, :2], joined[:, 2:] - joined[:, :2]], axis=1)


def _finite(entry: dict, numbers: Sequence) -> list[float]:
    numbers = [float(number) for number in numbers]
    if not all(map(math.isfinite, numbers)):
        raise DataError(f"Expected finite numbers in every annotation and result, got {entry!r}. Mend the file.")
    return numbers


def _checked_image(entry: dict, image_ids: set[int], names: dict[int, str]) -> int:
    if len(entry["bbox"]) != 4 or entry["image_id"] not in image_ids or entry["category_id"] not in names:
        raise DataError(
            "Expected every annotation and result to have 4 box numbers and to name a listed image and category, "
            f"got {entry!r}. Mend the file."
        )
    return entry["image_id"]
