"""Confusion matrices and the fractions computed from them."""

import numpy as np


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts pairs of labels (rows) and predictions, integers of any equal shape: int64 `[K, K]`."""
    pairs = labels.astype(np.int64).ravel() * num_classes + predictions.ravel()
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divides in float64; NaN for 0 / 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.float64(numerator) / np.float64(denominator)


def nan_mean(values: np.ndarray) -> float:
    """Returns the mean of the values that are not NaN; NaN if there is none."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
