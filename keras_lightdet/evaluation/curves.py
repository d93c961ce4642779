"""Precision against recall, and the two ways PASCAL VOC takes an average of it."""

from dataclasses import dataclass

import numpy as np

RECALL_POINTS = np.arange(11) * 0.1


@dataclass(frozen=True)
class PrecisionRecall:
    """A precision-recall curve of one class, from the best score down.

    Attributes:
        recall: Float64 `[n]`, 0..1, rising.
        precision: Float64 `[n]`, 0..1.
        scores: Float64 `[n]`, the score at which each point is reached.
    """

    recall: np.ndarray
    precision: np.ndarray
    scores: np.ndarray


def precision_recall(hits: np.ndarray, scores: np.ndarray, num_truths: int) -> PrecisionRecall:
    """Accumulates ranked detections into a curve with one point per detection.

    Args:
        hits: Bool `[n]`, true where a detection found an object; best score first.
        scores: `[n]`, falling.
        num_truths: How many objects there were to find; 0 makes the recall NaN.
    """
    found = np.cumsum(hits, dtype=np.int64)
    rank = np.arange(1, len(found) + 1)
    recall = found / num_truths if num_truths else np.full(len(found), np.nan)
    return PrecisionRecall(recall, found / rank, np.asarray(scores, np.float64))


def area_ap(curve: PrecisionRecall) -> float:
    """Average precision of VOC 2010 and later: the area under the curve's falling envelope."""
    recall = np.concatenate([[0.0], curve.recall])
    envelope = _falling_envelope(curve.precision)
    return float(np.sum(np.diff(recall) * envelope))


def eleven_point_ap(curve: PrecisionRecall) -> float:
    """Average precision of VOC 2007: the mean over recalls 0, 0.1, .., 1 of the best precision at or beyond.

    The points are k * 0.1 in float64, as in the evaluators whose figures are published. So a recall of
    exactly 3/10 does not reach the point "0.3", which is 0.30000000000000004 (likewise 6/10 and 7/10): in
    exact numbers a class can score up to 3/11 more.
    """
    envelope = np.append(_falling_envelope(curve.precision), 0.0)
    return float(np.mean(envelope[np.searchsorted(curve.recall, RECALL_POINTS, side="left")]))


def _falling_envelope(precision: np.ndarray) -> np.ndarray:
    return np.maximum.accumulate(precision[::-1])[::-1]
