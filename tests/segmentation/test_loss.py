"""The pixel loss: ignored pixels, class weights and OHEM, computed by hand."""

import numpy as np
import pytest

from keras_lightdet.labels import IGNORE
from keras_lightdet.segmentation import SegmentationLoss, pixel_loss

WITHOUT_OHEM = SegmentationLoss(ohem_threshold=None)


def logits_of(probabilities):
    """Returns logits of two classes for the probabilities of class 0: `[H, W]` -> `[1, H, W, 2]`."""
    p = np.float64(probabilities)[None]
    return np.stack([np.log(p), np.log(1 - p)], axis=-1).astype("float32")


def test_loss_is_the_mean_over_labeled_pixels():
    logits = logits_of([[0.9, 0.5], [0.2, 0.4]])
    labels = np.array([[[0, IGNORE], [0, 1]]])
    loss = pixel_loss(logits, labels, WITHOUT_OHEM)
    np.testing.assert_allclose(loss, -np.log([0.9, 0.2, 0.6]).sum() / 3, rtol=1e-6)


def test_class_weights_give_a_weighted_mean():
    logits = logits_of([[0.9, 0.5], [0.2, 0.4]])
    labels = np.array([[[0, IGNORE], [0, 1]]])
    loss = pixel_loss(logits, labels, SegmentationLoss(ohem_threshold=None, class_weights=(1.0, 3.0)))
    expected = (-np.log(0.9) - np.log(0.2) - 3 * np.log(0.6)) / 5
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("fraction", "counted"),
    [
        (1 / 8, [0.3, 0.6]),  # at least one, but two are below the threshold
        (3 / 8, [0.3, 0.6, 0.8]),  # at least three
        (5 / 8, [0.3, 0.6, 0.8, 0.9]),  # at least five, but only four are labeled
    ],
)
def test_ohem_counts_pixels_below_the_threshold_and_at_least_the_fraction(fraction, counted):
    logits = logits_of([[0.3, 0.6, 0.8, 0.9], [0.01, 0.02, 0.03, 0.04]])
    labels = np.array([[[0, 0, 0, 0], [IGNORE] * 4]])
    loss = pixel_loss(logits, labels, SegmentationLoss(ohem_threshold=0.7, min_ohem_fraction=fraction))
    np.testing.assert_allclose(loss, -np.log(counted).mean(), rtol=1e-6)


def test_loss_without_labeled_pixels_is_zero():
    logits, labels = logits_of([[0.3, 0.6]]), np.full((1, 1, 2), IGNORE)
    for spec in (WITHOUT_OHEM, SegmentationLoss()):
        assert pixel_loss(logits, labels, spec) == 0


def test_logits_are_resized_to_the_labels_with_aligned_corners():
    logits = np.zeros((1, 2, 2, 2), "float32")
    logits[0, :, 1, 0] = 4.0  # 0 at the left column, 4 at the right
    labels = np.zeros((1, 3, 5), int)
    expected = np.log1p(np.exp(-np.array([0.0, 1.0, 2.0, 3.0, 4.0]))).mean()
    np.testing.assert_allclose(pixel_loss(logits, labels, WITHOUT_OHEM), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"ohem_threshold": 1.5}, "ohem_threshold"), ({"min_ohem_fraction": 0.0}, "min_ohem_fraction")],
)
def test_invalid_settings_are_rejected(options, message):
    with pytest.raises(ValueError, match=message):
        SegmentationLoss(**options)
