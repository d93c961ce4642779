"""Anchors, coding and label assignment of grid detectors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lightdet.boxes import GridAnchors, GridAssigner, GridCoding, assign_grid_anchors

ANCHORS = GridAnchors((8, 16), (((10, 10), (20, 12)), ((40, 40), (30, 60))))


def test_anchors_are_centered_on_cells_level_by_level():
    anchors = ANCHORS.generate((32, 48))
    assert len(anchors.centers) == (4 * 6 + 2 * 3) * 2
    # Row 1, column 2, second shape of the level of stride 8.
    index = (1 * 6 + 2) * 2 + 1
    np.testing.assert_array_equal(anchors.centers[index], [20, 12])
    np.testing.assert_array_equal(anchors.sizes[index], [20, 12])
    # Row 1, column 0, first shape of the level of stride 16.
    index = 4 * 6 * 2 + (1 * 3 + 0) * 2
    np.testing.assert_array_equal(anchors.centers[index], [8, 24])
    np.testing.assert_array_equal(anchors.sizes[index], [40, 40])
    assert anchors.strides[index] == 16
    assert anchors.shapes[index] == 2


@pytest.mark.parametrize("sizes", [(((1, 2),),), (((1, 2),), ((1, 2), (3, 4))), (((0, 2),), ((1, 2),))])
def test_invalid_anchor_sizes_are_rejected(sizes):
    with pytest.raises(ValueError, match="Expected"):
        GridAnchors((8, 16), sizes)


def test_decoding_of_a_worked_example():
    anchors = ANCHORS.generate((32, 48))
    deltas = np.zeros((len(anchors.centers), 4), "float32")
    deltas[17] = [np.log(3), 0, np.log(2), 0]  # sigmoid 3/4: a quarter of two cells right; twice as wide
    boxes = np.asarray(GridCoding(reach=2.0).decode(deltas, anchors.centers, anchors.sizes, anchors.strides))
    center_x, center_y = 20 + 0.25 * 2 * 8, 12
    np.testing.assert_allclose(boxes[17], [center_x - 20, center_y - 6, center_x + 20, center_y + 6], rtol=1e-6)
    np.testing.assert_allclose(boxes[0], [4 - 5, 4 - 5, 4 + 5, 4 + 5])


def encode(boxes, anchors, reach):
    """Returns the deltas of `boxes`, one for each anchor, by the equation in GridCoding's docstring."""
    centers, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    position = (centers - anchors.centers) / (reach * anchors.strides[:, None]) + 0.5
    return np.concatenate([np.log(position / (1 - position)), np.log(sides / anchors.sizes)], 1).astype("float32")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31 - 1), st.sampled_from([1.0, 2.0]))
def test_decoding_inverts_encoding(seed, reach):
    random, coding, anchors = np.random.default_rng(seed), GridCoding(reach=reach), ANCHORS.generate((32, 48))
    offset = random.uniform(-0.49, 0.49, (len(anchors.centers), 2)) * reach * anchors.strides[:, None]
    centers, half = anchors.centers + offset, random.uniform(3, 60, anchors.sizes.shape) / 2
    boxes = np.concatenate([centers - half, centers + half], 1)
    decoded = coding.decode(encode(boxes, anchors, reach), anchors.centers, anchors.sizes, anchors.strides)
    np.testing.assert_allclose(decoded, boxes, rtol=1e-3, atol=2e-3)


def assign_by_loops(anchors, shape_sizes, boxes, valid, spec):
    """Applies the rule of GridAssigner anchor by anchor and box by box."""
    assigned = np.full((len(boxes), len(anchors.centers)), -1)
    for b in range(len(boxes)):
        best = np.zeros(len(anchors.centers))
        for g, (x0, y0, x1, y1) in enumerate(boxes[b]):
            width, height = x1 - x0, y1 - y0
            if not valid[b, g] or min(width, height) < spec.min_side:
                continue
            fits = []
            for w, h in shape_sizes:
                shared = min(w, width) * min(h, height)
                fits.append(shared / (w * h + width * height - shared))
            for n, (cx, cy) in enumerate(anchors.centers):
                offsets = sorted(abs(m - c) / anchors.strides[n] for m, c in (((x0 + x1) / 2, cx), ((y0 + y1) / 2, cy)))
                fit = fits[anchors.shapes[n]]
                near = offsets[0] <= 0.5 and offsets[1] < spec.center_radius
                if near and (fit >= spec.min_shape_iou or fit == max(fits)) and fit > best[n]:
                    best[n], assigned[b, n] = fit, g
    return assigned


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31 - 1), st.sampled_from([0.5, 1.0]))
def test_assignment_equals_a_loop_implementation(seed, center_radius):
    random, spec, anchors = (
        np.random.default_rng(seed),
        GridAssigner(center_radius=center_radius),
        ANCHORS.generate((32, 48)),
    )
    centers, half = random.uniform(0, 48, (2, 5, 2)), random.uniform(0, 30, (2, 5, 2))
    boxes = np.concatenate([centers - half, centers + half], -1).astype("float32")
    boxes[:, 3] = 0  # an empty box
    valid = random.random((2, 5)) < 0.8
    shape_sizes = np.float32(ANCHORS.sizes).reshape(-1, 2)
    assigned = assign_grid_anchors(anchors.centers, anchors.strides, anchors.shapes, shape_sizes, boxes, valid, spec)
    np.testing.assert_array_equal(assigned, assign_by_loops(anchors, shape_sizes, boxes.astype(float), valid, spec))


def test_each_box_inside_the_image_has_an_anchor():
    random, anchors = np.random.default_rng(0), ANCHORS.generate((32, 48))
    corners = random.uniform(0, 1, (1, 40, 4)) * [24, 16, 24, 16]
    boxes = np.concatenate([corners[..., :2], corners[..., :2] + 2 + corners[..., 2:] * 0.9], -1).astype("float32")
    for box in boxes[0]:  # one at a time, as boxes may compete for anchors
        assigned = assign_grid_anchors(
            anchors.centers,
            anchors.strides,
            anchors.shapes,
            np.float32(ANCHORS.sizes).reshape(-1, 2),
            box[None, None],
            np.array([[True]]),
            GridAssigner(),
        )
        assert np.max(assigned) == 0
