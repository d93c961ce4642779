"""Fits anchors to the boxes of a data set: by k-means under the IoU distance (Redmon and Farhadi 2017, sec. 2), or by
the scale of a pyramid of anchors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_lightdet.boxes import PyramidAnchors
from keras_lightdet.data.detection.records import DetectionData

_MAX_ITERATIONS = 100
# More boxes than this are thinned by the seed: the centers move by less than a pixel, the time by ten times.
_MAX_BOXES = 20_000
_RECALL_IOU = 0.5
_SCALES = (4.0, 3.5, 3.0, 2.5, 2.0, 1.5)
_STRIDES = (8, 16, 32, 64, 128)
_AS_GOOD = 0.01  # of the recall: no reason to leave a larger scale, whose anchors more cells share


@dataclass(frozen=True)
class AnchorFit:
    """Anchors and how well they cover the boxes they were fitted to.

    Attributes:
        anchors: One tuple of `(width, height)` pairs per level, fine to coarse, in pixels of the network input.
        mean_best_iou: Mean over the boxes of the IoU with the best anchor, both centerd alike.
        recall: Share of the boxes whose best anchor has an IoU above 0.5.
        smaller_than_stride: Share of the boxes whose shorter side is below the finest stride.
        num_boxes: Boxes that took part.
    """

    anchors: tuple[tuple[tuple[float, float], ...], ...]
    mean_best_iou: float
    recall: float
    smaller_than_stride: float
    num_boxes: int


def fit_anchors(
    data: DetectionData,
    image_size: tuple[int, int],
    *,
    num_levels: int = 3,
    per_level: int = 3,
    finest_stride: int = 8,
    seed: int = 0,
    restarts: int = 5,
) -> AnchorFit:
    """Finds the anchors that fit a data set as the network sees it, stretched to its input.

    Args:
        data: The training split; `ignore` boxes take no part.
        image_size: `(height, width)` of the network input.
        num_levels: Pyramid levels the anchors are spread over, smallest on the finest.
        per_level: Anchors per level.
        finest_stride: Of the finest level, in pixels; for the report alone.
        seed: Of the starts.
        restarts: Starts of which the best is kept.

    Returns:
        The anchors, rounded to a tenth of a pixel, and the fit of the rounded ones.

    Raises:
        ValueError: There are fewer different box sizes than anchors.
    """
    sizes = network_box_sizes(data, image_size)
    count = num_levels * per_level
    different = len(np.unique(np.round(sizes, 1), axis=0))
    if different < count:
        raise ValueError(
            f"Expected at least {count} different box sizes for {count} anchors, got {different}. "
            "Keep the model's own anchors, or add labeled images."
        )
    rng = np.random.default_rng(seed)
    fitted = sizes if len(sizes) <= _MAX_BOXES else sizes[rng.choice(len(sizes), _MAX_BOXES, replace=False)]
    tries = [_k_means(fitted, count, rng) for _ in range(restarts)]
    best = max(tries, key=lambda centers: size_iou(fitted, centers).max(1).mean())
    ordered = np.round(best[np.argsort(best.prod(axis=-1), kind="stable")], 1)
    levels = ordered.reshape(num_levels, per_level, 2).tolist()
    return measure_fit([[tuple(anchor) for anchor in level] for level in levels], sizes, finest_stride)


def fit_anchor_scale(data: DetectionData, image_size: tuple[int, int], usual: float) -> tuple[float, float]:
    """Finds the scale of `PyramidAnchors.octaves` on strides 8 to 128 that fits a data set.

    Every class counts alike: the anchors that fit most boxes may miss the one class of small things.

    Args:
        data: The training split; `ignore` boxes take no part.
        image_size: `(height, width)` of the network input.
        usual: The paper's scale; a smaller one is taken only for more recall.

    Returns:
        The scale, and the mean over the classes of the share of boxes whose best anchor has an IoU above 0.5, both
        centerd alike.

    Raises:
        ValueError: There are no boxes.
    """
    sizes = network_box_sizes(data, image_size)
    if not len(sizes):
        raise ValueError("Expected boxes to fit anchors to, got none. Do add labeled images.")
    labels = np.concatenate([record.labels[~record.ignore] for record in data.records])

    def recall(scale: float) -> float:
        placed = PyramidAnchors.octaves(_STRIDES, scale=scale).shapes()
        found = size_iou(sizes, placed[:, 2:] - placed[:, :2]).max(axis=1) > _RECALL_IOU
        return float(np.mean([found[labels == label].mean() for label in np.unique(labels)]))

    recalls = {scale: recall(scale) for scale in (usual, *(scale for scale in _SCALES if scale < usual))}
    enough = max(recalls.values()) - _AS_GOOD
    return next((scale, share) for scale, share in recalls.items() if share >= enough)


def measure_fit(
    anchors: Sequence[Sequence[tuple[float, float]]], sizes: np.ndarray, finest_stride: int = 8
) -> AnchorFit:
    """Reports how well given anchors cover box sizes.

    Args:
        anchors: `(width, height)` pairs by level, in pixels.
        sizes: `[n, 2]` widths and heights in pixels, n > 0.
        finest_stride: Of the finest level, in pixels.
    """
    flat = np.float64([anchor for level in anchors for anchor in level])
    best = size_iou(sizes, flat).max(axis=1)
    return AnchorFit(
        anchors=tuple(tuple((float(w), float(h)) for w, h in level) for level in anchors),
        mean_best_iou=float(best.mean()),
        recall=float((best > _RECALL_IOU).mean()),
        smaller_than_stride=float((sizes.min(axis=1) < finest_stride).mean()),
        num_boxes=len(sizes),
    )


def network_box_sizes(data: DetectionData, image_size: tuple[int, int]) -> np.ndarray:
    """Returns `[n, 2]` widths and heights of all boxes that count, in pixels of the network input `(height, width)`."""
    sizes = [np.zeros([0, 2])]
    for record in data.records:
        boxes = record.boxes[~record.ignore].astype(np.float64)
        scale = np.array([image_size[1] / record.width, image_size[0] / record.height])
        sizes.append((boxes[:, 2:] - boxes[:, :2]) * scale)
    return np.concatenate(sizes)


def size_iou(sizes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU `[n, m]` of boxes `[n, 2]` and `[m, 2]`, given by width and height, laid on one center."""
    shared = np.minimum(sizes[:, None], others).prod(axis=-1)
    return shared / (sizes.prod(axis=-1)[:, None] + others.prod(axis=-1) - shared)


def _k_means(sizes: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """One k-means++ start, then median updates until no box changes its cluster."""
    centers = sizes[rng.integers(len(sizes))][None]
    while len(centers) < count:
        distance = np.maximum(1.0 - size_iou(sizes, centers).max(axis=1), 0.0) ** 2
        centers = np.concatenate([centers, sizes[rng.choice(len(sizes), p=distance / distance.sum())][None]])
    owner = np.full(len(sizes), -1)
    for _ in range(_MAX_ITERATIONS):
        nearest = size_iou(sizes, centers).argmax(axis=1)
        if np.array_equal(nearest, owner):
            break
        owner = nearest
        # The median resists the few giants that pull a mean away from its cluster; an empty cluster stays.
        centers = np.stack(
            [np.median(sizes[owner == k], axis=0) if (owner == k).any() else centers[k] for k in range(count)]
        )
    return centers
