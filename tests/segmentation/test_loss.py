"""The pixels that count in the loss, by hand."""

import numpy as np
import pytest

from keras_lightdet.labels import IGNORE
from keras_lightdet.segmentation import SegmentationLoss, pixel_loss

PLAIN = SegmentationLoss(hard_threshold=None)


def logits_of(probabilities):
    """Two classes; the given probabilities are those of class 0. `[H, W]` -> `[1, H, W, 2]`."""
    p = np.float64(probabilities)[None]
    return np.stack([np.log(p), np.log(1 - p)], axis=-1).astype("float32")


def test_plain_is_the_mean_over_what_is_labeled():
    logits = logits_of([[0.9, 0.5], [0.2, 0.4]])
    labels = np.array([[[0, IGNORE], [0, 1]]])
    found = pixel_loss(logits, labels, PLAIN)
    np.testing.assert_allclose(found, -np.log([0.9, 0.2, 0.6]).sum() / 3, rtol=1e-6)


def test_class_weights_weigh_the_mean():
    logits = logits_of([[0.9, 0.5], [0.2, 0.4]])
    labels = np.array([[[0, IGNORE], [0, 1]]])
    found = pixel_loss(logits, labels, SegmentationLoss(hard_threshold=None, class_weights=(1.0, 3.0)))
    expected = (-np.log(0.9) - np.log(0.2) - 3 * np.log(0.6)) / 5
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("share", "kept"),
    [
        (1 / 8, [0.3, 0.6]),  # one at least, but two are hard
        (3 / 8, [0.3, 0.6, 0.8]),  # three at least
        (5 / 8, [0.3, 0.6, 0.8, 0.9]),  # five at least, but only four are labeled
    ],
)
def test_hard_pixels_are_those_below_the_threshold_and_no_fewer_than_the_share(share, kept):
    logits = logits_of([[0.3, 0.6, 0.8, 0.9], [0.01, 0.02, 0.03, 0.04]])
    labels = np.array([[[0, 0, 0, 0], [IGNORE] * 4]])
    found = pixel_loss(logits, labels, SegmentationLoss(hard_threshold=0.7, min_hard_share=share))
    np.testing.assert_allclose(found, -np.log(kept).mean(), rtol=1e-6)


def test_nothing_labeled_costs_nothing():
    logits, labels = logits_of([[0.3, 0.6]]), np.full((1, 1, 2), IGNORE)
    for spec in (PLAIN, SegmentationLoss()):
        assert pixel_loss(logits, labels, spec) == 0


def test_logits_are_enlarged_to_the_labels_with_their_corners_kept():
    logits = np.zeros((1, 2, 2, 2), "float32")
    logits[0, :, 1, 0] = 4.0  # 0 at the left column, 4 at the right
    labels = np.zeros((1, 3, 5), int)
    expected = np.log1p(np.exp(-np.array([0.0, 1.0, 2.0, 3.0, 4.0]))).mean()
    np.testing.assert_allclose(pixel_loss(logits, labels, PLAIN), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"), [({"hard_threshold": 1.5}, "hard_threshold"), ({"min_hard_share": 0.0}, "min_hard_share")]
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SegmentationLoss(**options)
