"""RoI align from one map and from a pyramid."""

import keras
import numpy as np
import pytest
import roi_reference
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lightdet.deploy import verify
from keras_lightdet.deploy.runtime import TFLiteGraph
from keras_lightdet.deploy.tflite_convert import convert_function
from keras_lightdet.layers import MultilevelRoIAlign, RoIAlign, multilevel_roi_align, roi_align


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31 - 1), st.booleans(), st.integers(1, 3), st.integers(1, 3))
def test_it_equals_the_definition_written_as_loops(seed, aligned, pool_size, samples):
    features, rois = roi_reference.random_case(seed, channels=2)
    actual = roi_align(features, rois, pool_size, 8, sampling_ratio=samples, aligned=aligned)
    expected = roi_reference.align(features, rois, pool_size, 8, samples, aligned, at_least_one=not aligned)
    np.testing.assert_allclose(actual, expected, atol=2e-5)


def test_a_linear_map_gives_the_centers_of_the_bins():
    y, x = np.meshgrid(np.arange(10.0), np.arange(12.0), indexing="ij")
    ramp = np.stack([y, x], -1)[None].astype("float32")
    actual = np.asarray(roi_align(ramp, np.float32([[[8, 16, 40, 32]]]), 2, 4, aligned=True))[0, 0]
    # Rows 4..8 and columns 2..10 of the map: middles of bins at 5, 7 and 4, 8, less the half pixel.
    np.testing.assert_allclose(actual[..., 0], [[4.5, 4.5], [6.5, 6.5]], rtol=1e-6)
    np.testing.assert_allclose(actual[..., 1], [[3.5, 7.5], [3.5, 7.5]], rtol=1e-6)


def test_borders_of_a_worked_example():
    row = np.float32([10, 20, 30]).reshape(1, 1, 3, 1)
    # One bin, one sample, in the middle of the region, on a map of one row.
    middles = np.array([-1.25, -0.75, 0.25, 2.75, 3.25])
    rois = np.stack([middles - 0.5, middles * 0 - 0.5, middles + 0.5, middles * 0 + 0.5], -1)[None].astype("float32")
    actual = roi_align(row, rois, 1, 1, sampling_ratio=1)
    np.testing.assert_allclose(np.ravel(actual), [0, 10, 12.5, 30, 0], rtol=1e-6)


def pyramid(random, levels=(2, 3, 4), side=128, channels=2):
    return {f"P{n}": random.normal(size=(2, side >> n, side >> n, channels)).astype("float32") for n in levels}


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**31 - 1), st.booleans())
def test_each_region_is_pooled_from_the_level_of_its_size(seed, aligned):
    random = np.random.default_rng(seed)
    maps = pyramid(random)
    side = 56 * 2 ** random.uniform(-2.2, 2.2, (2, 4, 1))
    shape = np.sqrt(2) ** random.uniform(-1, 1, (2, 4, 1))
    low = random.uniform(0, 60, (2, 4, 2))
    rois = np.concatenate([low, low + side * np.concatenate([shape, 1 / shape], -1)], -1).astype("float32")
    actual = multilevel_roi_align(maps, rois, 2, aligned=aligned, canonical_level=3, canonical_size=56.0)
    for b in range(2):
        for r in range(4):
            level = min(max(int(np.floor(3 + np.log2(side[b, r, 0] / 56))), 2), 4)
            here = maps[f"P{level}"][b : b + 1], rois[b : b + 1, r : r + 1]
            region = roi_reference.align(*here, 2, 2**level, 2, aligned, at_least_one=not aligned)
            np.testing.assert_allclose(actual[b, r], region[0, 0], atol=5e-5)


def test_sizes_at_the_bounds_of_levels_and_beyond_all_levels():
    maps = {f"P{n}": np.full((1, 512 >> n, 512 >> n, 1), n, "float32") for n in (2, 3, 4, 5)}
    sides = np.float32([0, 111.9, 112, 224, 447.9, 448, 2000])
    rois = np.stack([sides * 0, sides * 0, sides, sides], -1)[None]
    actual = np.asarray(multilevel_roi_align(maps, np.minimum(rois, 2000), 1, sampling_ratio=1))
    inside = [2, 2, 3, 4, 4, 5]
    np.testing.assert_allclose(actual[0, :6, 0, 0, 0], inside)


def test_levels_with_a_gap_are_refused():
    maps = pyramid(np.random.default_rng(0), levels=(2, 4))
    with pytest.raises(ValueError, match="without gaps"):
        multilevel_roi_align(maps, np.zeros((2, 1, 4), "float32"), 7)


@pytest.mark.parametrize("sampling_ratio", [0, -1])
def test_an_adaptive_number_of_samples_is_refused(sampling_ratio):
    with pytest.raises(ValueError, match="static shape"):
        roi_align(*roi_reference.random_case(0, 1), 7, 8, sampling_ratio=sampling_ratio)


def test_gradients_flow_only_to_the_features_and_equal_the_weights():
    features, rois = roi_reference.random_case(2, channels=1, batch=1, rois=2)
    features, rois = tf.Variable(features), tf.Variable(rois)

    @tf.function(jit_compile=True)
    def step():
        with tf.GradientTape() as tape:
            pooled = roi_align(features, rois, 2, 8, aligned=True)
            loss = tf.reduce_sum(pooled * tf.reshape(tf.range(8.0), (1, 2, 2, 2, 1)))
        return tape.gradient(loss, [features, rois])

    gradient, to_rois = step()
    assert to_rois is None
    # The layer is linear: the derivative by a pixel is the answer to a map that is 1 there.
    weights = np.arange(8.0).reshape(1, 2, 2, 2, 1)
    for row, column in ((0, 0), (2, 3), (3, 2), (3, 4), (5, 6)):
        pixel = np.zeros((1, 6, 7, 1))
        pixel[0, row, column] = 1
        expected = (weights * roi_reference.align(pixel, rois.numpy(), 2, 8, 2, True)).sum()
        assert float(gradient[0, row, column, 0]) == pytest.approx(expected, abs=1e-4)
    assert np.count_nonzero(gradient) > 10


@pytest.mark.parametrize("form", ["one", "pyramid"])
def test_xla_and_tflite_compute_the_same_as_eager_mode(form):
    random = np.random.default_rng(1)
    maps = {name: each[:1] for name, each in pyramid(random).items()}
    low = random.uniform(-5, 80, (1, 5, 2))
    rois = np.concatenate([low, low + random.uniform(0, 120, low.shape)], -1).astype("float32")

    def function(tensors):
        if form == "one":
            return {"pooled": roi_align(tensors["P3"], tensors["rois"], 3, 8)}
        levels = {name: tensors[name] for name in maps}
        return {"pooled": multilevel_roi_align(levels, tensors["rois"], 3, canonical_size=60.0)}

    inputs = {"rois": rois, **(maps if form == "pyramid" else {"P3": maps["P3"]})}
    expected = function({name: tf.constant(value) for name, value in inputs.items()})["pooled"]
    compiled = tf.function(function, jit_compile=True)(inputs)["pooled"]
    np.testing.assert_allclose(compiled, expected, atol=1e-5)
    content = convert_function(function, {name: value.shape for name, value in inputs.items()})
    verify.check_allowed_ops(content)
    np.testing.assert_allclose(TFLiteGraph(content).run(inputs)["pooled"], expected, atol=1e-5)


def test_layers_are_saved_and_keep_regions_exact_in_half_precision(tmp_path):
    features, rois = roi_reference.random_case(3, channels=2)
    rois[:, :, 2:] += 1000.3  # float16 would round it to a whole pixel
    shapes = ((6, 7, 2), (None, 4))
    inputs = [keras.Input(shape) for shape in shapes]
    with_policy = RoIAlign(3, 8, sampling_ratio=1, aligned=True, dtype="mixed_float16")
    levels = {"P3": inputs[0], "P4": keras.layers.MaxPooling2D(2)(inputs[0])}
    over_levels = MultilevelRoIAlign(2, canonical_size=100.0, canonical_level=3)(levels, inputs[1])
    model = keras.Model(inputs, [with_policy(*inputs), over_levels])
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for actual, expected in zip(again([features, rois]), model([features, rois]), strict=True):
        np.testing.assert_array_equal(actual, expected)
    exact = roi_align(features, rois, 3, 8, sampling_ratio=1, aligned=True)
    np.testing.assert_allclose(model([features, rois])[0], exact, atol=1e-3)
    levels = {"P3": features, "P4": tf.nn.max_pool2d(features, 2, 2, "VALID")}
    coarse = multilevel_roi_align(levels, rois, 2, canonical_size=100.0, canonical_level=3)
    np.testing.assert_allclose(model([features, rois])[1], coarse, atol=1e-6)
