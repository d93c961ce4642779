"""Position-sensitive RoI align."""

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
from keras_lightdet.layers import PSRoIAlign, ps_roi_align

FORMS = [("mean", True, "clamp"), ("max", False, "zero"), ("max", False, "clamp"), ("mean", True, "zero")]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31 - 1), st.sampled_from(FORMS), st.integers(1, 3), st.integers(1, 3))
def test_it_equals_the_definition_written_as_loops(seed, form, pool_size, samples):
    reduce, aligned, border = form
    features, rois = roi_reference.random_case(seed, channels=2 * pool_size**2)
    actual = ps_roi_align(features, rois, pool_size, 8, samples=samples, reduce=reduce, aligned=aligned, border=border)
    expected = roi_reference.align(
        features, rois, pool_size, 8, samples, aligned, reduce=reduce, border=border, position_sensitive=True
    )
    np.testing.assert_allclose(actual, expected, atol=2e-5)


def test_a_bin_pools_its_own_channels():
    channels = np.arange(18, dtype="float32")  # (output, row, column) of 2 outputs in 3 x 3 bins
    features = np.broadcast_to(channels, (1, 8, 8, 18))
    actual = np.asarray(ps_roi_align(features, np.float32([[[8, 8, 40, 40]]]), 3, 8))
    np.testing.assert_allclose(actual[0, 0, :, :, 1], [[9, 10, 11], [12, 13, 14], [15, 16, 17]], rtol=1e-6)


def test_samples_are_at_a_quarter_and_three_quarters_of_the_bin():
    y, x = np.meshgrid(np.arange(10.0), np.arange(12.0), indexing="ij")
    ramp = (100 * y + x)[None, ..., None].astype("float32")
    roi = np.float32([[[16, 8, 48, 72]]])  # columns 2..6 and rows 1..9 of the map
    assert float(ps_roi_align(ramp, roi, 1, 8, reduce="max")[0, 0, 0, 0, 0]) == pytest.approx(700 + 5)
    assert float(ps_roi_align(ramp, roi, 1, 8, reduce="mean")[0, 0, 0, 0, 0]) == pytest.approx(500 + 4)
    assert float(ps_roi_align(ramp, roi, 1, 8, aligned=True)[0, 0, 0, 0, 0]) == pytest.approx(450 + 3.5)


@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_gradients_flow_only_to_the_features(reduce):
    features, rois = roi_reference.random_case(5, channels=4, batch=1)
    features, rois = tf.Variable(features), tf.Variable(rois)
    weights = np.random.default_rng(0).normal(size=(1, 3, 2, 2, 1))

    @tf.function(jit_compile=True)
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(ps_roi_align(features, rois, 2, 8, reduce=reduce) * tf.constant(weights, tf.float32))
        return tape.gradient(loss, [features, rois])

    gradient, to_rois = step()
    assert to_rois is None
    # Differences of the double-precision definition, along random directions.
    random, step_size = np.random.default_rng(1), 1e-6
    for _ in range(3):
        direction = random.normal(size=features.shape)
        ends = []
        for moved in (features.numpy() + step_size * direction, features.numpy() - step_size * direction):
            pooled = roi_reference.align(moved, rois.numpy(), 2, 8, reduce=reduce, position_sensitive=True)
            ends.append(np.sum(weights * pooled))
        assert np.sum(gradient * direction) == pytest.approx((ends[0] - ends[1]) / (2 * step_size), abs=2e-4)


@pytest.mark.parametrize(("reduce", "border"), [("mean", "clamp"), ("max", "zero")])
def test_xla_and_tflite_compute_the_same_as_eager_mode(reduce, border):
    features, rois = roi_reference.random_case(6, channels=5 * 9, batch=1, rois=8)

    def function(tensors):
        return {"pooled": ps_roi_align(tensors["features"], tensors["rois"], 3, 8, reduce=reduce, border=border)}

    inputs = {"features": features, "rois": rois}
    expected = function(inputs)["pooled"]
    compiled = tf.function(function, jit_compile=True)(inputs)["pooled"]
    np.testing.assert_allclose(compiled, expected, atol=1e-5)
    content = convert_function(function, {name: value.shape for name, value in inputs.items()})
    verify.check_allowed_ops(content)
    np.testing.assert_allclose(TFLiteGraph(content).run(inputs)["pooled"], expected, atol=1e-5)


def test_the_layer_supports_maps_of_any_size_and_saving(tmp_path):
    features, rois = roi_reference.random_case(7, channels=18)
    inputs = [keras.Input((None, None, 18)), keras.Input((3, 4))]
    layer = PSRoIAlign(3, 8.0, samples=1, reduce="max", aligned=True, border="zero", name="roi_align")
    model = keras.Model(inputs, layer(*inputs))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    expected = roi_reference.align(features, rois, 3, 8, 1, True, reduce="max", border="zero", position_sensitive=True)
    np.testing.assert_allclose(again.predict([features, rois], verbose=0), expected, atol=2e-5)


def test_invalid_arguments_are_refused():
    features, rois = roi_reference.random_case(0, channels=18)
    with pytest.raises(ValueError, match="multiple of 49"):
        ps_roi_align(features, rois, 7, 8)
    with pytest.raises(ValueError, match="reduce"):
        ps_roi_align(features, rois, 3, 8, reduce="sum")
    with pytest.raises(ValueError, match="border"):
        ps_roi_align(features, rois, 3, 8, border="reflect")
