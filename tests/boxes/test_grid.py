"""Anchors, coding and matching of grid detectors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lightdet.boxes import GridAnchors, GridAssigner, GridCoding, assign_grid_anchors

ANCHORS = GridAnchors((8, 16), (((10, 10), (20, 12)), ((40, 40), (30, 60))))


def test_anchors_stand_at_cell_centers_level_by_level():
    placed = ANCHORS.generate((32, 48))
    assert len(placed.centers) == ANCHORS.count((32, 48)) == (4 * 6 + 2 * 3) * 2
    # Row 1, column 2, second shape of the level of stride 8.
    index = (1 * 6 + 2) * 2 + 1
    np.testing.assert_array_equal(placed.centers[index], [20, 12])
    np.testing.assert_array_equal(placed.sizes[index], [20, 12])
    # Row 1, column 0, first shape of the level of stride 16.
    index = 4 * 6 * 2 + (1 * 3 + 0) * 2
    np.testing.assert_array_equal(placed.centers[index], [8, 24])
    np.testing.assert_array_equal(placed.sizes[index], [40, 40])
    assert placed.strides[index] == 16
    assert placed.shapes[index] == 2


@pytest.mark.parametrize("sizes", [(((1, 2),),), (((1, 2),), ((1, 2), (3, 4))), (((0, 2),), ((1, 2),))])
def test_anchors_that_fit_no_grid_are_refused(sizes):
    with pytest.raises(ValueError, match="Expected"):
        GridAnchors((8, 16), sizes)


def test_decoding_a_worked_example():
    placed = ANCHORS.generate((32, 48))
    deltas = np.zeros((len(placed.centers), 4), "float32")
    deltas[17] = [np.log(3), 0, np.log(2), 0]  # sigmoid 3/4: a quarter of two cells right; twice as wide
    boxes = np.asarray(GridCoding(reach=2.0).decode(deltas, placed.centers, placed.sizes, placed.strides))
    middle_x, middle_y = 20 + 0.25 * 2 * 8, 12
    np.testing.assert_allclose(boxes[17], [middle_x - 20, middle_y - 6, middle_x + 20, middle_y + 6], rtol=1e-6)
    np.testing.assert_allclose(boxes[0], [4 - 5, 4 - 5, 4 + 5, 4 + 5])


def encoded(boxes, placed, reach):
    """The deltas that GridCoding's docstring gives `boxes`, one for each anchor."""
    middle, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    share = (middle - placed.centers) / (reach * placed.strides[:, None]) + 0.5
    return np.concatenate([np.log(share / (1 - share)), np.log(sides / placed.sizes)], 1).astype("float32")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31 - 1), st.sampled_from([1.0, 2.0]))
def test_decoding_is_the_inverse_of_the_coding(seed, reach):
    random, coding, placed = np.random.default_rng(seed), GridCoding(reach=reach), ANCHORS.generate((32, 48))
    offset = random.uniform(-0.49, 0.49, (len(placed.centers), 2)) * reach * placed.strides[:, None]
    middle, half = placed.centers + offset, random.uniform(3, 60, placed.sizes.shape) / 2
    boxes = np.concatenate([middle - half, middle + half], 1)
    found = coding.decode(encoded(boxes, placed, reach), placed.centers, placed.sizes, placed.strides)
    np.testing.assert_allclose(found, boxes, rtol=1e-3, atol=2e-3)


def matched_by_loops(placed, shape_sizes, boxes, valid, spec):
    """The rule of GridAssigner, anchor by anchor and box by box."""
    answer = np.full((len(boxes), len(placed.centers)), -1)
    for b in range(len(boxes)):
        best = np.zeros(len(placed.centers))
        for g, (x0, y0, x1, y1) in enumerate(boxes[b]):
            width, height = x1 - x0, y1 - y0
            if not valid[b, g] or min(width, height) < spec.min_side:
                continue
            fits = []
            for w, h in shape_sizes:
                shared = min(w, width) * min(h, height)
                fits.append(shared / (w * h + width * height - shared))
            for n, (cx, cy) in enumerate(placed.centers):
                offsets = sorted(abs(m - c) / placed.strides[n] for m, c in (((x0 + x1) / 2, cx), ((y0 + y1) / 2, cy)))
                fit = fits[placed.shapes[n]]
                near = offsets[0] <= 0.5 and offsets[1] < spec.near
                if near and (fit >= spec.min_shape_iou or fit == max(fits)) and fit > best[n]:
                    best[n], answer[b, n] = fit, g
    return answer


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31 - 1), st.sampled_from([0.5, 1.0]))
def test_matching_equals_the_rule_written_as_loops(seed, near):
    random, spec, placed = np.random.default_rng(seed), GridAssigner(near=near), ANCHORS.generate((32, 48))
    middle, half = random.uniform(0, 48, (2, 5, 2)), random.uniform(0, 30, (2, 5, 2))
    boxes = np.concatenate([middle - half, middle + half], -1).astype("float32")
    boxes[:, 3] = 0  # an empty box
    valid = random.random((2, 5)) < 0.8
    shape_sizes = np.float32(ANCHORS.sizes).reshape(-1, 2)
    found = assign_grid_anchors(placed.centers, placed.strides, placed.shapes, shape_sizes, boxes, valid, spec)
    np.testing.assert_array_equal(found, matched_by_loops(placed, shape_sizes, boxes.astype(float), valid, spec))


def test_every_box_inside_the_image_is_answered():
    random, placed = np.random.default_rng(0), ANCHORS.generate((32, 48))
    corners = random.uniform(0, 1, (1, 40, 4)) * [24, 16, 24, 16]
    boxes = np.concatenate([corners[..., :2], corners[..., :2] + 2 + corners[..., 2:] * 0.9], -1).astype("float32")
    for box in boxes[0]:  # one at a time, as boxes may take each other's anchors
        found = assign_grid_anchors(
            placed.centers,
            placed.strides,
            placed.shapes,
            np.float32(ANCHORS.sizes).reshape(-1, 2),
            box[None, None],
            np.array([[True]]),
            GridAssigner(),
        )
        assert np.max(found) == 0
