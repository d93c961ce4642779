"""Precision-recall curves, and the two forms of average precision of PASCAL VOC."""

from dataclasses import dataclass

import numpy as np

RECALL_POINTS = np.arange(11) * 0.1


@dataclass(frozen=True)
class PrecisionRecall:
    """The precision-recall curve of one class, in descending order of scores.

    Attributes:
        recall: Float64 `[n]`, 0..1, ascending.
        precision: Float64 `[n]`, 0..1.
        scores: Float64 `[n]`, the score threshold of each point.
    """

    recall: np.ndarray
    precision: np.ndarray
    scores: np.ndarray


def precision_recall(is_true_positive: np.ndarray, scores: np.ndarray, num_objects: int) -> PrecisionRecall:
    """Computes the curve of ranked detections, with one point per detection.

    Args:
        is_true_positive: Bool `[n]`, best score first.
        scores: `[n]`, descending.
        num_objects: Number of ground-truth objects; 0 gives a recall of NaN.
    """
    true_positives = np.cumsum(is_true_positive, dtype=np.int64)
    rank = np.arange(1, len(true_positives) + 1)
    recall = true_positives / num_objects if num_objects else np.full(len(true_positives), np.nan)
    return PrecisionRecall(recall, true_positives / rank, np.asarray(scores, np.float64))


def area_ap(curve: PrecisionRecall) -> float:
    """Computes the average precision of VOC 2010 and later: the area under the monotonic precision."""
    recall = np.concatenate([[0.0], curve.recall])
    return float(np.sum(np.diff(recall) * _monotonic_precision(curve.precision)))


def eleven_point_ap(curve: PrecisionRecall) -> float:
    """Computes the average precision of VOC 2007: the mean over recalls 0, 0.1, .., 1 of the best precision from there.

    The points are k * 0.1 in float64, as in the evaluators of published figures. A recall of exactly 3/10 therefore
    does not reach the point 0.3, which is 0.30000000000000004 (likewise 6/10 and 7/10): in exact arithmetic the average
    precision of a class can be up to 3/11 higher.
    """
    precision = np.append(_monotonic_precision(curve.precision), 0.0)
    return float(np.mean(precision[np.searchsorted(curve.recall, RECALL_POINTS, side="left")]))


def _monotonic_precision(precision: np.ndarray) -> np.ndarray:
    """Returns the best precision at the same or a larger recall."""
    return np.maximum.accumulate(precision[::-1])[::-1]
