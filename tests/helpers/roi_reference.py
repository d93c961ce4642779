"""RoI align as loops over bins, samples and corners, in double precision."""

import math

import numpy as np


def sample(plane, y, x, border):
    """Returns the bilinear value of `plane [H, W]` at a point."""
    height, width = plane.shape
    if border == "clamp":
        if y < -1 or y > height or x < -1 or x > width:
            return 0.0
        y, x = min(max(y, 0.0), height - 1), min(max(x, 0.0), width - 1)
    total = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < height and 0 <= column < width:
                total += (1 - abs(y - row)) * (1 - abs(x - column)) * plane[row, column]
    return total


def align(
    features,
    rois,
    pool_size,
    stride,
    samples=2,
    aligned=False,
    *,
    at_least_one=False,
    reduce="mean",
    border="clamp",
    position_sensitive=False,
):
    """Returns `[B, R, pool_size, pool_size, C]` of `features [B, H, W, C]` and `rois [B, R, 4]`."""
    features, rois = np.asarray(features, float), np.asarray(rois, float)
    channels = features.shape[-1] // (pool_size**2 if position_sensitive else 1)
    pooled = np.zeros((*rois.shape[:2], pool_size, pool_size, channels))
    for b, r, i, j, a in np.ndindex(pooled.shape):
        x0, y0, x1, y1 = rois[b, r] / stride - (0.5 if aligned else 0.0)
        height, width = y1 - y0, x1 - x0
        if at_least_one:
            height, width = max(height, 1.0), max(width, 1.0)
        plane = features[b, :, :, (a * pool_size + i) * pool_size + j if position_sensitive else a]
        values = [
            sample(
                plane,
                y0 + height / pool_size * (i + (s + 0.5) / samples),
                x0 + width / pool_size * (j + (t + 0.5) / samples),
                border,
            )
            for s in range(samples)
            for t in range(samples)
        ]
        pooled[b, r, i, j, a] = max(values) if reduce == "max" else sum(values) / len(values)
    return pooled


def random_case(seed, channels, batch=2, rois=3, height=6, width=7, stride=8):
    """Returns features and regions within and across the border, without samples at the discontinuities of "clamp"."""
    random = np.random.default_rng(seed)
    low = random.uniform(-12, 40, (batch, rois, 2))
    boxes = np.concatenate([low, low + random.uniform(0, 50, low.shape)], -1).astype("float32")
    return random.normal(size=(batch, height, width, channels)).astype("float32"), boxes
