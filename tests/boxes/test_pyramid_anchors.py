"""PyramidAnchors, and DeltaCoding relative to them."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lightdet.boxes import DeltaCoding, PyramidAnchors

ANCHORS = PyramidAnchors((16, 32), ((32, 64), (128, 256)), (0.5, 1.0, 2.0))


def test_anchors_are_ordered_by_level_row_column_ratio_size():
    boxes = ANCHORS.generate((40, 64))  # 3 x 4 cells of 16 pixels, 2 x 2 of 32
    assert boxes.dtype == np.float32
    assert ANCHORS.level_counts((40, 64)) == (3 * 4 * 6, 2 * 2 * 6)
    # Row 2, column 3, ratio 2 (twice as high as wide), size 64.
    box = boxes[(2 * 4 + 3) * 6 + 2 * 2 + 1]
    width, height = 64 / np.sqrt(2), 64 * np.sqrt(2)
    np.testing.assert_allclose(box, [48 - width / 2, 32 - height / 2, 48 + width / 2, 32 + height / 2], rtol=1e-6)
    # Second level, row 1, column 0, ratio 1/2 (twice as wide as high), size 128.
    box = boxes[72 + (1 * 2 + 0) * 6]
    width, height = 128 * np.sqrt(2), 128 / np.sqrt(2)
    np.testing.assert_allclose(box, [-width / 2, 32 - height / 2, width / 2, 32 + height / 2], rtol=1e-6)


def test_anchors_have_the_area_of_their_size_and_their_aspect_ratio():
    anchors = PyramidAnchors((16,), ((32, 64, 128, 256, 512),), (0.5, 0.75, 1.0, 4 / 3, 2.0))
    sides = anchors.generate((16, 16))
    sides = (sides[:, 2:] - sides[:, :2]).reshape(5, 5, 2)
    np.testing.assert_allclose(sides.prod(-1), np.tile(np.square([32, 64, 128, 256, 512.0]), (5, 1)), rtol=1e-5)
    np.testing.assert_allclose(sides[..., 1] / sides[..., 0], np.repeat([[0.5], [0.75], [1], [4 / 3], [2]], 5, 1), 1e-5)
    assert anchors.level_counts((320, 320)) == (10_000,)


def test_offset_shifts_centers_and_shapes_are_rounded_before_the_shift():
    boxes = PyramidAnchors((8,), ((20,),), (2.0,), offset=0.5, rounded=True).generate((8, 16))
    # Half sides 7.07 and 14.14 become 7 and 14; centers are at (4, 4) and (12, 4).
    np.testing.assert_array_equal(boxes, [[-3, -10, 11, 18], [5, -10, 19, 18]])


def test_keras_restores_the_spec():
    config = keras.saving.serialize_keras_object(ANCHORS)
    assert keras.saving.deserialize_keras_object(config) == ANCHORS


@pytest.mark.parametrize(
    ("strides", "sizes", "ratios"),
    [((8,), ((1,), (2,)), (1,)), ((8, 16), ((1,), (2, 3)), (1,)), ((8,), ((0,),), (1,)), ((8,), ((4,),), ())],
)
def test_invalid_anchors_are_rejected(strides, sizes, ratios):
    with pytest.raises(ValueError, match="Expected"):
        PyramidAnchors(strides, sizes, ratios)


def test_encoding_of_a_worked_example():
    anchor, box = np.float32([[10, 20, 30, 60]]), np.float32([[20, 20, 60, 40]])
    # Sides 20 x 40 and 40 x 20, centers (20, 40) and (40, 30).
    deltas = [20 / 20, -10 / 40, np.log(2), -np.log(2)]
    np.testing.assert_allclose(DeltaCoding((1, 1, 1, 1)).encode(box, anchor), [deltas], rtol=1e-6)
    np.testing.assert_allclose(DeltaCoding().encode(box, anchor), [deltas] * np.float32([10, 10, 5, 5]), rtol=1e-6)
    np.testing.assert_allclose(
        DeltaCoding.from_stds((0.1, 0.1, 0.2, 0.2)).encode(box, anchor), DeltaCoding().encode(box, anchor), rtol=1e-6
    )


def random_boxes(random, shape):
    corners = random.uniform(-50, 300, (*shape, 2))
    return np.concatenate([corners, corners + random.uniform(2, 200, corners.shape)], -1).astype("float32")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31 - 1), st.sampled_from([(1, 1, 1, 1), (10, 10, 5, 5)]))
def test_decoding_inverts_encoding(seed, weights):
    random, coding = np.random.default_rng(seed), DeltaCoding(weights, max_log_side=5.0)
    boxes, anchors = random_boxes(random, (2, 7, 3)), random_boxes(random, (2, 7, 1))
    np.testing.assert_allclose(coding.decode(coding.encode(boxes, anchors), anchors), boxes, rtol=1e-4, atol=2e-3)


def test_max_log_side_bounds_growth_only():
    anchors, deltas = np.float32([[0, 0, 16, 16]] * 2), np.float32([[0, 0, 500, 500], [0, 0, -5, -5]])
    grown, shrunk = np.asarray(DeltaCoding().decode(deltas, anchors))
    np.testing.assert_allclose(grown, [8 - 500, 8 - 500, 8 + 500, 8 + 500], rtol=1e-5)
    np.testing.assert_allclose(shrunk[2] - shrunk[0], 16 * np.exp(-1), rtol=1e-5)


def test_padding_is_encoded_as_finite_deltas():
    empty = np.zeros((1, 4), "float32")
    assert np.isfinite(DeltaCoding().encode(empty, np.float32([[0, 0, 9, 9]]))).all()
    assert np.isfinite(DeltaCoding().encode(np.float32([[0, 0, 9, 9]]), empty)).all()


@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 1, 0, 1)])
def test_invalid_weights_are_rejected(weights):
    with pytest.raises(ValueError, match="four positive"):
        DeltaCoding(weights)


def test_octaves_are_equal_steps_up_to_twice_the_scale():
    anchors = PyramidAnchors.octaves((8, 128), scale=3.0, per_octave=2, offset=0.5)
    np.testing.assert_allclose(anchors.sizes, [[24, 24 * 2**0.5], [384, 384 * 2**0.5]])
    assert (anchors.offset, anchors.per_cell) == (0.5, 6)


def test_fitted_anchors_cover_the_image_exactly():
    """EfficientDet-Lite0 at 320: P7 has 3 x 3 cells of 106.67 pixels, not of 128."""
    options = {"strides": (128,), "sizes": ((512,),), "aspect_ratios": (1.0,), "offset": 0.5}
    boxes = PyramidAnchors(**options, fitted=True).generate((320, 320))
    stride, half = 320 / 3, 4 * 320 / 3 / 2
    centers = (np.array([[x, y] for y in range(3) for x in range(3)]) + 0.5) * stride
    np.testing.assert_allclose(boxes, np.concatenate([centers - half, centers + half], 1), rtol=1e-6, atol=1e-4)
    np.testing.assert_array_equal(
        PyramidAnchors(**options, fitted=True).generate((256, 384)), PyramidAnchors(**options).generate((256, 384))
    )
