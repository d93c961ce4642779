"""Fits anchors to the boxes of a data set.

Either by k-means with the IoU as distance (Redmon and Farhadi 2017, sec. 2), or by the scale of pyramid anchors.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_lightdet.boxes import PyramidAnchors
from keras_lightdet.data.detection.records import DetectionData
from keras_lightdet.types import Size

_MAX_ITERATIONS = 100
# Of more boxes a random subset is used: the centers move by less than a pixel, and it takes a tenth of the time.
_MAX_BOXES = 20_000
_RECALL_IOU = 0.5
_SCALES = (4.0, 3.5, 3.0, 2.5, 2.0, 1.5)
_STRIDES = (8, 16, 32, 64, 128)
_RECALL_TOLERANCE = 0.01  # a smaller scale must gain more recall than this


@dataclass(frozen=True)
class AnchorFit:
    """Anchors and how well they cover the boxes they were fitted to.

    Attributes:
        anchors: One tuple of `(width, height)` pairs per level, fine to coarse, in pixels of the network input.
        mean_best_iou: Mean over the boxes of the IoU with the best anchor, both with the same center.
        recall: Share of the boxes whose best anchor has an IoU above 0.5.
        smaller_than_stride: Share of the boxes whose shorter side is below the finest stride.
        num_boxes: Number of boxes used.
    """

    anchors: tuple[tuple[tuple[float, float], ...], ...]
    mean_best_iou: float
    recall: float
    smaller_than_stride: float
    num_boxes: int


def fit_anchors(
    data: DetectionData,
    image_size: Size,
    *,
    num_levels: int = 3,
    per_level: int = 3,
    finest_stride: int = 8,
    seed: int = 0,
    restarts: int = 5,
) -> AnchorFit:
    """Fits anchors to the boxes of a data set, resized to the network input.

    Args:
        data: The training split; `ignore` boxes are not used.
        image_size: `(height, width)` of the network input.
        num_levels: Number of pyramid levels; the smallest anchors go to the finest level.
        per_level: Anchors per level.
        finest_stride: Stride of the finest level in pixels; only for the report.
        seed: Seed of the random initialization.
        restarts: Number of runs of k-means, the best of which is kept.

    Returns:
        The anchors, rounded to a tenth of a pixel, and the fit of the rounded ones.

    Raises:
        ValueError: There are fewer different box sizes than anchors.
    """
    sizes = network_box_sizes(data, image_size)
    count = num_levels * per_level
    num_different = len(np.unique(np.round(sizes, 1), axis=0))
    if num_different < count:
        raise ValueError(
            f"Expected at least {count} different box sizes for {count} anchors, got {num_different}. "
            "Keep the model's own anchors, or add labeled images."
        )
    rng = np.random.default_rng(seed)
    subset = sizes if len(sizes) <= _MAX_BOXES else sizes[rng.choice(len(sizes), _MAX_BOXES, replace=False)]
    runs = [_k_means(subset, count, rng) for _ in range(restarts)]
    best = max(runs, key=lambda centers: size_iou(subset, centers).max(1).mean())
    ordered = np.round(best[np.argsort(best.prod(axis=-1), kind="stable")], 1)
    levels = ordered.reshape(num_levels, per_level, 2).tolist()
    return measure_fit([[tuple(anchor) for anchor in level] for level in levels], sizes, finest_stride)


def fit_anchor_scale(data: DetectionData, image_size: Size, default: float) -> tuple[float, float]:
    """Fits the scale of `PyramidAnchors.octaves` on strides 8 to 128 to a data set.

    All classes have the same weight: anchors that fit most boxes may miss a class of small objects.

    Args:
        data: The training split; `ignore` boxes are not used.
        image_size: `(height, width)` of the network input.
        default: The paper's scale; a smaller one is returned only where it gains recall.

    Returns:
        The scale, and the mean over the classes of the share of boxes whose best anchor, with the same center, has an
        IoU above 0.5.

    Raises:
        ValueError: There are no boxes.
    """
    sizes = network_box_sizes(data, image_size)
    if not len(sizes):
        raise ValueError("Expected boxes to fit anchors to, got none. Add labeled images.")
    labels = np.concatenate([record.labels[~record.ignore] for record in data.records])

    def recall(scale: float) -> float:
        anchors = PyramidAnchors.octaves(_STRIDES, scale=scale).shapes()
        is_covered = size_iou(sizes, anchors[:, 2:] - anchors[:, :2]).max(axis=1) > _RECALL_IOU
        return float(np.mean([is_covered[labels == label].mean() for label in np.unique(labels)]))

    recalls = {scale: recall(scale) for scale in (default, *(scale for scale in _SCALES if scale < default))}
    required = max(recalls.values()) - _RECALL_TOLERANCE
    return next((scale, share) for scale, share in recalls.items() if share >= required)


def measure_fit(
    anchors: Sequence[Sequence[tuple[float, float]]], sizes: np.ndarray, finest_stride: int = 8
) -> AnchorFit:
    """Measures how well anchors, `(width, height)` pairs by level, cover box sizes `[n, 2]`, n > 0; all in pixels."""
    flat = np.array([anchor for level in anchors for anchor in level], np.float64)
    best = size_iou(sizes, flat).max(axis=1)
    return AnchorFit(
        anchors=tuple(tuple((float(w), float(h)) for w, h in level) for level in anchors),
        mean_best_iou=float(best.mean()),
        recall=float((best > _RECALL_IOU).mean()),
        smaller_than_stride=float((sizes.min(axis=1) < finest_stride).mean()),
        num_boxes=len(sizes),
    )


def network_box_sizes(data: DetectionData, image_size: Size) -> np.ndarray:
    """Returns `[n, 2]` widths and heights of all boxes without `ignore`, in pixels of the network input."""
    sizes = [np.zeros([0, 2])]
    for record in data.records:
        boxes = record.boxes[~record.ignore].astype(np.float64)
        scale = np.array([image_size[1] / record.width, image_size[0] / record.height])
        sizes.append((boxes[:, 2:] - boxes[:, :2]) * scale)
    return np.concatenate(sizes)


def size_iou(sizes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns the IoU `[n, m]` of boxes `[n, 2]` and `[m, 2]`, given by width and height, with the same center."""
    intersection = np.minimum(sizes[:, None], others).prod(axis=-1)
    return intersection / (sizes.prod(axis=-1)[:, None] + others.prod(axis=-1) - intersection)


def _k_means(sizes: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Runs k-means from a k-means++ initialization, with medians as centers, until no box changes its cluster."""
    centers = sizes[rng.integers(len(sizes))][None]
    while len(centers) < count:
        distance = np.maximum(1.0 - size_iou(sizes, centers).max(axis=1), 0.0) ** 2
        centers = np.concatenate([centers, sizes[rng.choice(len(sizes), p=distance / distance.sum())][None]])
    clusters = np.full(len(sizes), -1)
    for _ in range(_MAX_ITERATIONS):
        nearest = size_iou(sizes, centers).argmax(axis=1)
        if np.array_equal(nearest, clusters):
            break
        clusters = nearest
        # A few very large boxes would pull a mean away from its cluster. The center of an empty cluster is kept.
        centers = np.stack(
            [np.median(sizes[clusters == k], axis=0) if (clusters == k).any() else centers[k] for k in range(count)]
        )
    return centers
