"""Average precision as the PASCAL VOC development kit computes it (Everingham et al. 2010, sec. 4.2).

A detection is compared with the object of its class and image that it overlaps most. Below the IoU threshold it is a
false positive; on an object without a detection it is a true positive; on an object that has one it is a false
positive; on a difficult object (`ignore`) it is neither, and such objects do not count as missed. Ties are broken as in
the kit: by the order of the images, then of the detections.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_lightdet.data import DetectionData, ImageRecord
from keras_lightdet.detection import Detections
from keras_lightdet.evaluation.checks import check_evaluation_input, join_arrays
from keras_lightdet.evaluation.curves import PrecisionRecall, area_ap, eleven_point_ap, precision_recall
from keras_lightdet.evaluation.results import ClassResult

VOC_METRICS = {"voc07": eleven_point_ap, "area": area_ap}


@dataclass(frozen=True)
class VocClass(ClassResult):
    """The result of one class.

    Attributes:
        name: Name of the class.
        AP: 0..1; NaN if the class has no objects.
        num_objects: Ground-truth objects, difficult ones excluded.
        num_difficult: Difficult objects, which are neither positive nor negative.
        num_detections: Detections of the class.
        curve: Precision against recall, one point per counted detection.
    """

    name: str
    AP: float
    num_objects: int
    num_difficult: int
    num_detections: int
    curve: PrecisionRecall


@dataclass(frozen=True)
class VocResult:
    """Mean average precision, and the results of the classes.

    Attributes:
        mAP: Mean over the classes that have objects, 0..1; NaN if none has.
        metric: "voc07" or "area".
        iou_threshold: Lowest IoU of a true positive.
        plus_one: Whether boxes were taken as inclusive pixel indices.
        classes: One `VocClass` per class, in label order.
    """

    mAP: float  # noqa: N815 - the metric's name in the literature
    metric: str
    iou_threshold: float
    plus_one: bool
    classes: tuple[VocClass, ...]

    def figures(self) -> dict[str, float]:
        """Returns the summary figures by name."""
        return {"mAP": self.mAP}


def evaluate_voc(
    data: DetectionData,
    detections: Sequence[Detections],
    *,
    metric: str = "voc07",
    iou_threshold: float = 0.5,
    plus_one: bool = False,
) -> VocResult:
    """Evaluates detections by the rules of PASCAL VOC.

    `plus_one` says what a coordinate means. The kit uses inclusive pixel indices, so a side is `max - min + 1` long.
    The boxes of a `DetectionData` are edges of pixels, so the same side is `max - min` long: the kit's box
    (11, 11, 20, 20) is the record (10, 10, 20, 20), and `plus_one=False` on records gives the kit's figure.
    `plus_one=True` is for boxes that are pixel indices, and for comparison with projects that add the pixel to edges,
    too; it increases the IoU of small boxes a little.

    Args:
        data: The labeled images; `ignore` marks difficult objects.
        detections: One per record, in the records' order and pixels.
        metric: "voc07" (mean over 11 recalls) or "area" (VOC 2010 and later: area under the curve).
        iou_threshold: Lowest IoU of a true positive, in (0, 1].
        plus_one: Whether boxes are inclusive pixel indices.

    Raises:
        ValueError: The metric or the threshold is invalid.
        DataError: Data and detections do not belong together (see `check_evaluation_input`).
    """
    if metric not in VOC_METRICS:
        raise ValueError(f"Expected metric to be one of {tuple(VOC_METRICS)}, got {metric!r}.")
    if not 0.0 < iou_threshold <= 1.0:
        raise ValueError(f"Expected iou_threshold to be in (0, 1], got {iou_threshold!r}.")
    check_evaluation_input(data, detections)

    matched = _match_images(data, detections, iou_threshold, plus_one)
    labels = join_arrays([d.labels for d in detections], np.int64)
    scores = join_arrays([d.scores for d in detections], np.float64)
    object_labels = join_arrays([r.labels for r in data.records], np.int64)
    difficult = join_arrays([r.ignore for r in data.records], bool)
    classes = []
    for label, name in enumerate(data.class_names):
        of_class, objects = labels == label, object_labels == label
        true_positives, counted_scores = _rank(scores[of_class], matched[of_class], difficult)
        num_objects = int(np.sum(objects & ~difficult))
        curve = precision_recall(true_positives, counted_scores, num_objects)
        ap = VOC_METRICS[metric](curve) if num_objects else float("nan")
        num_difficult = int(np.sum(objects & difficult))
        classes.append(VocClass(name, ap, num_objects, num_difficult, int(np.sum(of_class)), curve))
    with_objects = [c.AP for c in classes if c.num_objects]
    mean = float(np.mean(with_objects)) if with_objects else float("nan")
    return VocResult(mean, metric, iou_threshold, plus_one, tuple(classes))


def _match_images(
    data: DetectionData, detections: Sequence[Detections], iou_threshold: float, plus_one: bool
) -> np.ndarray:
    """Returns the object of each detection, in order: its index among the objects of all images, or -1."""
    matched, first = [], 0
    for record, of_record in zip(data.records, detections, strict=True):
        matched.append(_best_objects(record, of_record, iou_threshold, plus_one, first))
        first += len(record.labels)
    return join_arrays(matched, np.int64)


def _best_objects(
    record: ImageRecord, detections: Detections, iou_threshold: float, plus_one: bool, first: int
) -> np.ndarray:
    """Returns for each detection the object of its class it overlaps most, or -1 below the threshold."""
    if not len(record.labels) or not len(detections):
        return np.full(len(detections), -1)
    overlap = _iou(np.asarray(detections.boxes, np.float64), np.asarray(record.boxes, np.float64), float(plus_one))
    overlap[np.asarray(detections.labels)[:, None] != np.asarray(record.labels)[None]] = -1.0
    best = overlap.argmax(axis=1)
    return np.where(overlap.max(axis=1) >= iou_threshold, first + best, -1)


def _iou(boxes: np.ndarray, others: np.ndarray, extra: float) -> np.ndarray:
    """Returns the IoU `[n, m]` of boxes whose sides are `extra` pixels longer than `max - min`.

    In float64, unlike `boxes.pairwise_iou`: an IoU equal to the threshold must not depend on float32 rounding.
    """
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.prod(np.maximum(high - low + extra, 0.0), axis=2)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2] + extra, axis=1)
    other_areas = np.prod(others[:, 2:] - others[:, :2] + extra, axis=1)
    union = areas[:, None] + other_areas[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _rank(scores: np.ndarray, matched: np.ndarray, difficult: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the true-positive flags and scores, best first, of one class's detections, without difficult objects."""
    order = np.argsort(-scores, kind="stable")
    scores, matched = scores[order], matched[order]
    on_object = matched >= 0
    counted = np.ones(len(matched), bool)
    counted[on_object] = ~difficult[matched[on_object]]
    true_positives = np.zeros(len(matched), bool)
    objects, first_detections = np.unique(matched, return_index=True)
    true_positives[first_detections[objects >= 0]] = True
    return true_positives[counted], scores[counted]
