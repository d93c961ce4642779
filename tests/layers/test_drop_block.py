import keras
import numpy as np
import pytest

from keras_lightdet.layers import DropBlock


def dropped(height, width, block_size, rate=0.1, count=400):
    """Returns which values of maps of ones are dropped, `[B, H, W]`, and the maps."""
    maps = np.ones((count, height, width, 1), "float32")
    actual = np.array(DropBlock(rate, block_size, seed=3)(maps, training=True))
    return actual[..., 0] == 0, actual[..., 0]


def test_whole_squares_inside_the_map_are_dropped():
    zeros, _ = dropped(9, 12, 3, rate=0.02)
    inside = np.lib.stride_tricks.sliding_window_view(zeros, (3, 3), axis=(1, 2)).all(axis=(-1, -2))
    covered = np.zeros_like(zeros)
    for row in range(3):
        for column in range(3):
            covered[:, row : row + 7, column : column + 10] |= inside
    assert zeros.any()
    np.testing.assert_array_equal(zeros, covered)  # every zero lies in a whole square of zeros


# Squares overlap, so that a little less is dropped than the rate: 1 - (1 - chance)^squares.
@pytest.mark.parametrize(("height", "width", "block_size"), [(20, 31, 7), (9, 9, 1), (4, 5, 7), (6, 6, 7), (1, 1, 3)])
def test_the_share_that_is_dropped_is_the_rate(height, width, block_size):
    zeros, values = dropped(height, width, block_size, count=200_000 // (height * width))
    assert 0.09 < zeros.mean() < 0.105
    np.testing.assert_allclose(values.mean(), 1.0, rtol=1e-5)
    assert len(np.unique(values)) == 2


def test_inference_and_a_rate_of_0_change_nothing():
    x = np.random.default_rng(0).normal(size=(2, 9, 9, 3)).astype("float32")
    np.testing.assert_array_equal(DropBlock(0.5)(x), x)
    np.testing.assert_array_equal(DropBlock(0.0)(x, training=True), x)
    assert np.any(np.array(DropBlock(0.5)(x, training=True)) != x)


def test_the_layer_is_restored_from_its_config():
    layer = DropBlock(0.2, 5, seed=1)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert (again.rate, again.block_size, again.seed) == (0.2, 5, 1)


@pytest.mark.parametrize(("rate", "size"), [(1.0, 7), (-0.1, 7), (0.1, 4), (0.1, 0)])
def test_arguments_out_of_range_are_refused(rate, size):
    with pytest.raises(ValueError, match="Expected"):
        DropBlock(rate, size)
