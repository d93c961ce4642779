"""Average precision as the PASCAL VOC development kit computes it (Everingham et al. 2010, sec. 4.2).

A detection is compared with the object of its class and image that it overlaps most. Below the threshold it
is false; on an object not yet taken it is a hit; on a taken one it is a false duplicate; on a difficult one
(`ignore`) it counts neither way, and such objects are not asked for. The kit's order decides between equal
scores: images in the order of the data, detections in the order given.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_lightdet.data.detection.records import DetectionData, ImageRecord
from keras_lightdet.detection.detections import Detections
from keras_lightdet.evaluation.checks import check_evaluation_input, join_arrays
from keras_lightdet.evaluation.curves import PrecisionRecall, area_ap, eleven_point_ap, precision_recall

VOC_METRICS = ("voc07", "area")
VOC_IOU_THRESHOLD = 0.5


@dataclass(frozen=True)
class VocClass:
    """The score of one class.

    Attributes:
        name: The class.
        AP: 0..1, or NaN where there was no object to find.
        truths: Objects to find, difficult ones not counted.
        difficult: Objects that count neither way.
        detections: What the detector answered for the class.
        curve: Precision against recall, one point per counted detection.
    """

    name: str
    AP: float
    truths: int
    difficult: int
    detections: int
    curve: PrecisionRecall


@dataclass(frozen=True)
class VocResult:
    """Mean average precision and what it is the mean of.

    Attributes:
        mAP: Mean of the classes that have objects, 0..1; NaN if none has.
        metric: "voc07" or "area".
        iou_threshold: The overlap that made a hit.
        plus_one: Whether boxes were taken as inclusive pixel numbers.
        classes: One `VocClass` per class, in label order.
    """

    mAP: float  # noqa: N815 - the name the metric has everywhere
    metric: str
    iou_threshold: float
    plus_one: bool
    classes: tuple[VocClass, ...]

    def figures(self) -> dict[str, float]:
        """Returns the summary figures by name."""
        return {"mAP": self.mAP}

    def rows(self) -> list[dict]:
        """Returns the per-class table as data, in label order."""
        return [
            {
                "class": c.name,
                "AP": c.AP,
                "objects": c.truths,
                "difficult": c.difficult,
                "detections": c.detections,
            }
            for c in self.classes
        ]


def evaluate_voc(
    data: DetectionData,
    detections: Sequence[Detections],
    *,
    metric: str = "voc07",
    iou_threshold: float = VOC_IOU_THRESHOLD,
    plus_one: bool = False,
) -> VocResult:
    """Scores detections by the rules of PASCAL VOC.

    `plus_one` is about what a coordinate means. The kit works on numbers of pixels, both ends included, so a
    side is `max - min + 1` long. The boxes of a `DetectionData` are edges of pixels, so the same side is `max
    - min` long: the kit's box (11, 11, 20, 20) is the record (10, 10, 20, 20), and `plus_one=False` on
    records *is* the kit's figure. `plus_one=True` is for boxes that are pixel numbers themselves, and for
    comparison with projects that add the pixel to edges as well; it favors small boxes a little.

    Args:
        data: The labeled images; `ignore` marks what is difficult.
        detections: One per record, in the records' order and pixels.
        metric: "voc07" (mean over 11 recalls) or "area" (VOC 2010 and later: area under the curve).
        iou_threshold: The overlap that makes a hit, in (0, 1]; VOC's is 0.5, reached by equality too.
        plus_one: Whether boxes are inclusive pixel numbers.

    Raises:
        ValueError: The metric or the threshold is unknown.
        DataError: Data and detections do not belong together (see `check_evaluation_input`).
    """
    if metric not in VOC_METRICS:
        raise ValueError(f"Expected metric to be one of {VOC_METRICS}, got {metric!r}.")
    if not 0.0 < iou_threshold <= 1.0:
        raise ValueError(f"Expected iou_threshold to be in (0, 1], got {iou_threshold!r}.")
    check_evaluation_input(data, detections)

    labels, scores, truth = _match_images(data, detections, iou_threshold, plus_one)
    truth_labels = join_arrays([r.labels for r in data.records], np.int64)
    truth_ignore = join_arrays([r.ignore for r in data.records], bool)
    average = area_ap if metric == "area" else eleven_point_ap
    classes = []
    for label, name in enumerate(data.class_names):
        mine, objects = labels == label, truth_labels == label
        hits, counted_scores = _rank(scores[mine], truth[mine], truth_ignore)
        truths = int(np.sum(objects & ~truth_ignore))
        curve = precision_recall(hits, counted_scores, truths)
        ap = average(curve) if truths else float("nan")
        classes.append(VocClass(name, ap, truths, int(np.sum(objects & truth_ignore)), int(np.sum(mine)), curve))
    present = [c.AP for c in classes if c.truths]
    mean = float(np.mean(present)) if present else float("nan")
    return VocResult(mean, metric, iou_threshold, plus_one, tuple(classes))


def _match_images(
    data: DetectionData, detections: Sequence[Detections], iou_threshold: float, plus_one: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns label, score and object (its position among all, or -1) of every detection, in order."""
    truths, first = [], 0
    for record, found in zip(data.records, detections, strict=True):
        truths.append(_best_objects(record, found, iou_threshold, plus_one, first))
        first += len(record.labels)
    labels = join_arrays([d.labels for d in detections], np.int64)
    scores = join_arrays([d.scores for d in detections], np.float64)
    return labels, scores, join_arrays(truths, np.int64)


def _best_objects(
    record: ImageRecord, found: Detections, iou_threshold: float, plus_one: bool, first: int
) -> np.ndarray:
    """Returns for each detection the object of its class it overlaps most, or -1 below the threshold."""
    if not len(record.labels) or not len(found):
        return np.full(len(found), -1)
    overlap = _overlap(np.asarray(found.boxes, np.float64), np.asarray(record.boxes, np.float64), float(plus_one))
    overlap[np.asarray(found.labels)[:, None] != np.asarray(record.labels)[None]] = -1.0
    best = overlap.argmax(axis=1)
    return np.where(overlap.max(axis=1) >= iou_threshold, first + best, -1)


def _overlap(boxes: np.ndarray, others: np.ndarray, extra: float) -> np.ndarray:
    """Intersection over union `[n, m]`, every side `extra` pixels longer than its corners are apart.

    Not `boxes.overlap`, which is a float32 training function: equality with the threshold must not hang on
    float32.
    """
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.prod(np.maximum(high - low + extra, 0.0), axis=2)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2] + extra, axis=1)
    other_areas = np.prod(others[:, 2:] - others[:, :2] + extra, axis=1)
    union = areas[:, None] + other_areas[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _rank(scores: np.ndarray, truth: np.ndarray, truth_ignore: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns hits and scores, best first, of the detections of one class that count either way."""
    order = np.argsort(-scores, kind="stable")
    scores, truth = scores[order], truth[order]
    on_object = truth >= 0
    counted = np.ones(len(truth), bool)
    counted[on_object] = ~truth_ignore[truth[on_object]]
    hits = np.zeros(len(truth), bool)
    taken, first_claim = np.unique(truth, return_index=True)
    hits[first_claim[taken >= 0]] = True
    return hits[counted], scores[counted]
