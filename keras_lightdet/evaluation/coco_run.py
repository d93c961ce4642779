"""Runs pycocotools class by class.

Its own loop over all classes keeps the matches of each class and size in memory, gigabytes for COCO val2017; the
classes are independent, so one at a time gives the same numbers. Ids start at 1 here, because pycocotools takes a
match with id 0 for no match. It keeps the best 100 detections of each class in each image.
"""

import contextlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from keras_lightdet.evaluation.coco_result import COCO_FIGURES, CocoClass, CocoResult
from keras_lightdet.evaluation.curves import PrecisionRecall

if TYPE_CHECKING:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

# Positions in pycocotools' result arrays with its default parameters.
_IOU_50, _ALL_AREAS, _MAX_100 = 0, 0, 2
# The value of pycocotools' figures where there are no objects.
_ABSENT = -1.0

# An object or a detection as pycocotools has it: image_id, bbox (x, y, width, height), area, iscrowd and score.
CocoEntry: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class ClassEntries:
    """All objects and detections of one class."""

    name: str
    category_id: int
    annotations: Sequence[CocoEntry]
    detections: Sequence[CocoEntry]


def run_pycocotools(classes: Iterable[ClassEntries]) -> CocoResult:
    """Evaluates boxes with pycocotools, without its output on the terminal.

    Images without object and detection of a class do not change its figures and can be omitted.

    Args:
        classes: The classes; an iterator keeps one at a time in memory.

    Raises:
        ImportError: pycocotools is not installed.
    """
    try:
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise ImportError("Expected pycocotools for COCO figures. Run: pip install 'keras-lightdet[train]'") from error

    with contextlib.redirect_stdout(io.StringIO()):
        summary = COCOeval(iouType="bbox")
        arrays, results = [], []
        for entries in classes:
            arrays.append(_evaluate_class(entries, summary))
            results.append(_class_result(entries, arrays[-1], summary.params.recThrs))
        summary.eval = {
            "precision": np.concatenate([of_class["precision"] for of_class in arrays], axis=2),
            "recall": np.concatenate([of_class["recall"] for of_class in arrays], axis=1),
        }
        summary.summarize()
    figures = {name: _nan_if_absent(value) for name, value in zip(COCO_FIGURES, summary.stats, strict=True)}
    return CocoResult(classes=tuple(results), **figures)


def _evaluate_class(entries: ClassEntries, defaults: "COCOeval") -> dict[str, np.ndarray]:
    """Returns "precision" and "scores" `[IoU, recall, 1, area, max]`, and "recall" `[IoU, 1, area, max]`."""
    from pycocotools.cocoeval import COCOeval

    if all(a["iscrowd"] for a in entries.annotations):
        p = defaults.params
        shape = (len(p.iouThrs), len(p.recThrs), 1, len(p.areaRng), len(p.maxDets))
        absent = np.full(shape, _ABSENT)
        return {"precision": absent, "scores": absent, "recall": absent[:, 0]}
    image_ids = sorted({entry["image_id"] for entry in (*entries.annotations, *entries.detections)})
    objects, detections = (
        _index(image_ids, entries.category_id, own) for own in (entries.annotations, entries.detections)
    )
    evaluation = COCOeval(objects, detections, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval


def _index(image_ids: list[int], category_id: int, entries: Sequence[CocoEntry]) -> "COCO":
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = {
        "images": [{"id": image_id} for image_id in image_ids],
        "categories": [{"id": category_id}],
        "annotations": [{"id": i, "category_id": category_id, **entry} for i, entry in enumerate(entries, 1)],
    }
    coco.createIndex()
    return coco


def _class_result(entries: ClassEntries, arrays: dict[str, np.ndarray], recalls: np.ndarray) -> CocoClass:
    num_crowds = sum(a["iscrowd"] for a in entries.annotations)
    num_objects = len(entries.annotations) - num_crowds
    precision = arrays["precision"][:, :, 0, _ALL_AREAS, _MAX_100]
    recall = arrays["recall"][:, 0, _ALL_AREAS, _MAX_100]
    scores = arrays["scores"][_IOU_50, :, 0, _ALL_AREAS, _MAX_100]
    points = slice(None) if num_objects else slice(0)
    return CocoClass(
        entries.name,
        entries.category_id,
        AP=_nan_if_absent(precision.mean()),
        AP50=_nan_if_absent(precision[_IOU_50].mean()),
        AR100=_nan_if_absent(recall.mean()),
        num_objects=num_objects,
        num_crowds=num_crowds,
        num_detections=len(entries.detections),
        curve=PrecisionRecall(np.array(recalls[points]), precision[_IOU_50, points], scores[points]),
    )


def _nan_if_absent(figure: float) -> float:
    return float("nan") if figure == _ABSENT else float(figure)
