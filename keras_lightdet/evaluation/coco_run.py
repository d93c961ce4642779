"""pycocotools, run class by class.

Its own loop over all classes keeps every match of every class and size in memory, gigabytes for COCO val2017;
the classes do not depend on each other, so one at a time gives the same numbers. What it expects silently is
made sure of here: ids start at 1, as it takes a match with id 0 for no match. It keeps the best 100
detections of each class in each image.
"""

import contextlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from keras_lightdet.evaluation.coco_result import CocoClass, CocoResult
from keras_lightdet.evaluation.curves import PrecisionRecall

if TYPE_CHECKING:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

# Positions in pycocotools' result arrays with its default parameters.
_IOU_50, _ALL_AREAS, _MAX_100 = 0, 0, 2
# What pycocotools answers where there was no object to find.
_ABSENT = -1.0


@dataclass(frozen=True)
class ClassEntries:
    """All objects and detections of one class, made by `annotation` and `result`."""

    name: str
    category_id: int
    annotations: list[dict]
    results: list[dict]


def annotation(image_id: int, box: list[float], area: float, iscrowd: int) -> dict:
    """Returns an object in COCO's form; `box` is x, y, width, height."""
    return {"image_id": image_id, "bbox": box, "area": area, "iscrowd": iscrowd}


def result(image_id: int, box: list[float], score: float) -> dict:
    """Returns a detection in the form pycocotools has it after loading; `box` is x, y, width, height."""
    return {**annotation(image_id, box, box[2] * box[3], 0), "score": score}


def run_pycocotools(classes: Iterable[ClassEntries]) -> CocoResult:
    """Evaluates boxes with pycocotools, in silence.

    Images without object and detection of a class change nothing in its score, so they need no mention.

    Args:
        classes: Made one at a time, if memory matters.

    Raises:
        ImportError: pycocotools is not installed.
    """
    try:
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise ImportError("Expected pycocotools for COCO's figures. Do: pip install 'keras-lightdet[train]'") from error

    with contextlib.redirect_stdout(io.StringIO()):
        summary = COCOeval(iouType="bbox")
        parts, scored = [], []
        for entries in classes:
            part = _evaluate_class(entries, summary)
            parts.append(part)
            scored.append(_class_result(entries, part, summary.params.recThrs))
        summary.eval = {
            "precision": np.concatenate([part["precision"] for part in parts], axis=2),
            "recall": np.concatenate([part["recall"] for part in parts], axis=1),
        }
        summary.summarize()
    return CocoResult(*map(_nan_if_absent, summary.stats), tuple(scored))


def _evaluate_class(entries: ClassEntries, defaults: "COCOeval") -> dict[str, np.ndarray]:
    """Returns "precision" and "scores" `[IoU, recall, 1, area, max]` and "recall" `[IoU, 1, area, max]`."""
    from pycocotools.cocoeval import COCOeval

    if all(a["iscrowd"] for a in entries.annotations):
        p = defaults.params
        shape = (len(p.iouThrs), len(p.recThrs), 1, len(p.areaRng), len(p.maxDets))
        absent = np.full(shape, _ABSENT)
        return {"precision": absent, "scores": absent, "recall": absent[:, 0]}
    image_ids = sorted({entry["image_id"] for entry in (*entries.annotations, *entries.results)})
    evaluation = COCOeval(
        _index(image_ids, entries.category_id, entries.annotations),
        _index(image_ids, entries.category_id, entries.results),
        "bbox",
    )
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval


def _index(image_ids: list[int], category_id: int, entries: list[dict]) -> "COCO":
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = {
        "images": [{"id": image_id} for image_id in image_ids],
        "categories": [{"id": category_id}],
        "annotations": [{"id": i, "category_id": category_id, **entry} for i, entry in enumerate(entries, 1)],
    }
    coco.createIndex()
    return coco


def _class_result(entries: ClassEntries, part: dict[str, np.ndarray], recalls: np.ndarray) -> CocoClass:
    crowds = sum(a["iscrowd"] for a in entries.annotations)
    truths = len(entries.annotations) - crowds
    precision = part["precision"][:, :, 0, _ALL_AREAS, _MAX_100]
    recall = part["recall"][:, 0, _ALL_AREAS, _MAX_100]
    points = slice(None) if truths else slice(0)
    curve = PrecisionRecall(
        np.array(recalls[points]),
        precision[_IOU_50, points],
        part["scores"][_IOU_50, points, 0, _ALL_AREAS, _MAX_100],
    )
    figures = map(_nan_if_absent, (precision.mean(), precision[_IOU_50].mean(), recall.mean()))
    return CocoClass(entries.name, entries.category_id, *figures, truths, crowds, len(entries.results), curve)


def _nan_if_absent(figure: float) -> float:
    return float("nan") if figure == _ABSENT else float(figure)
