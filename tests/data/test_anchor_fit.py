"""Fitted anchors, compared with known clusters and an exhaustive search."""

import numpy as np
import pytest
from shared_data import shared_data

from keras_lightdet.data.detection.anchor_fit import (
    fit_anchor_scale,
    fit_anchors,
    measure_fit,
    network_box_sizes,
    size_iou,
)
from keras_lightdet.data.detection.loading import load_data
from keras_lightdet.data.detection.records import DetectionData, ImageRecord


def data_of(sizes, width=200, height=100, ignore=None, labels=None) -> DetectionData:
    boxes = np.float32([[0, 0, w, h] for w, h in sizes]).reshape(-1, 4)
    flags = np.zeros(len(sizes), bool) if ignore is None else np.array(ignore)
    labels = np.zeros(len(sizes), np.int32) if labels is None else np.int32(labels)
    record = ImageRecord("a.jpg", 1, width, height, boxes, labels, flags, boxes[:, 2] * boxes[:, 3])
    return DetectionData((record,), ("a",))


def test_iou_of_sizes():
    ious = size_iou(np.array([[4.0, 2.0], [3.0, 3.0]]), np.array([[2.0, 4.0], [3.0, 3.0], [4.0, 2.0]]))
    np.testing.assert_allclose(ious, [[4 / 12, 6 / 11, 1], [6 / 11, 1, 6 / 11]])


def test_box_sizes_are_in_pixels_of_the_network_input_without_ignored_boxes():
    data = data_of([(20, 10), (40, 50), (7, 7)], ignore=[False, False, True])
    np.testing.assert_allclose(network_box_sizes(data, (300, 100)), [[10, 30], [20, 150]])


def test_known_clusters_are_found():
    rng = np.random.default_rng(0)
    centers = np.array([(10, 12), (30, 15), (16, 40), (60, 60), (120, 50), (50, 95)])
    sizes = np.concatenate([center * rng.uniform(0.96, 1.04, (60, 2)) for center in centers])
    fit = fit_anchors(data_of(sizes), (100, 200), num_levels=2, per_level=3, seed=1)
    assert [len(level) for level in fit.anchors] == [3, 3]
    anchors = np.array([anchor for level in fit.anchors for anchor in level])
    np.testing.assert_allclose(anchors, centers[np.argsort(centers.prod(-1))], rtol=0.03)
    assert fit.mean_best_iou > 0.95 and fit.recall == 1.0 and fit.num_boxes == 360


def test_the_fit_is_close_to_that_of_an_exhaustive_search():
    rng = np.random.default_rng(3)
    sizes = rng.uniform(5, 95, (60, 2))
    fit = fit_anchors(data_of(sizes), (100, 200), num_levels=1, per_level=2, seed=0)
    grid = np.array([(w, h) for w in range(6, 96, 4) for h in range(6, 96, 4)], float)
    iou = size_iou(sizes, grid)
    best = max(np.maximum(iou[:, [i]], iou[:, i:]).mean(0).max() for i in range(len(grid)))
    assert fit.mean_best_iou > best - 0.02


def test_measured_fit():
    fit = measure_fit([[(10, 10)], [(40, 40)]], np.array([[10, 10], [5, 10], [4, 5], [40, 80]], float), finest_stride=8)
    np.testing.assert_allclose(fit.mean_best_iou, (1 + 0.5 + 0.2 + 0.5) / 4)
    assert fit.recall == 0.25 and fit.smaller_than_stride == 0.5 and fit.num_boxes == 4


def test_the_fit_is_reproducible_and_sorted_by_area():
    rng = np.random.default_rng(5)
    data = data_of(rng.uniform(3, 99, (200, 2)))
    fit, again = (fit_anchors(data, (320, 320), seed=7) for _ in range(2))
    assert fit == again
    areas = [w * h for level in fit.anchors for w, h in level]
    assert areas == sorted(areas) and len(fit.anchors) == 3


@pytest.mark.parametrize("sizes", [[], [(10, 10)] * 50])
def test_too_few_sizes_are_an_error(sizes):
    data = data_of(sizes) if sizes else data_of([(1, 1)], ignore=[True])
    with pytest.raises(ValueError, match="at least 9 different box sizes"):
        fit_anchors(data, (320, 320))


def test_anchors_fit_bccd():
    fit = fit_anchors(load_data(shared_data("bccd"), "trainval"), (320, 320), restarts=2)
    assert fit.mean_best_iou > 0.86 and fit.recall > 0.99


def test_the_scale_is_reduced_for_one_class_of_small_objects():
    """At stride 8, scale 4 gives anchors of 32 pixels (IoU 0.39 with a box of 20), scale 3.5 of 28 (IoU 0.51)."""
    data = data_of([(60, 60)] * 40 + [(20, 20)], 200, 200, labels=[0] * 40 + [1])
    assert fit_anchor_scale(data, (200, 200), 4.0) == (3.5, 1.0)
    ignored = data_of([(60, 60)] * 40 + [(20, 20)], 200, 200, labels=[0] * 40 + [1], ignore=[False] * 40 + [True])
    assert fit_anchor_scale(ignored, (200, 200), 4.0) == (4.0, 1.0)
    # No scale fits boxes of 5 pixels: the smallest anchors have 12.
    data = data_of([(60, 60), (60, 60), (20, 20), (5, 5)], 200, 200, labels=[0, 0, 1, 2])
    assert fit_anchor_scale(data, (200, 200), 4.0) == (3.5, pytest.approx(2 / 3))


def test_a_scale_without_boxes_is_an_error():
    with pytest.raises(ValueError, match="none"):
        fit_anchor_scale(data_of([]), (200, 200), 4.0)


def test_the_default_scale_is_kept_where_it_fits_as_well():
    data = data_of([(60, 60), (150, 120)], 200, 200)
    assert fit_anchor_scale(data, (200, 200), 3.0) == (3.0, 1.0)
