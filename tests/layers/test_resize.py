"""Nearest-neighbor upsampling against NumPy, in training, at inference and as a .tflite."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_lightdet.deploy.runtime import TFLiteGraph
from keras_lightdet.deploy.tflite_convert import convert_network
from keras_lightdet.deploy.verify import count_partitions, list_ops
from keras_lightdet.layers import NearestUpsample2D

MAP = np.random.default_rng(0).normal(size=(2, 3, 5, 6)).astype("float32")


def repeated(x, factor):
    return x.repeat(factor, axis=1).repeat(factor, axis=2)


@pytest.mark.parametrize("factor", [1, 2, 8])
@pytest.mark.parametrize("training", [False, True])
def test_every_pixel_is_repeated(factor, training):
    layer = NearestUpsample2D.from_config(NearestUpsample2D(factor).get_config())
    x = tf.constant(MAP)
    with tf.GradientTape() as tape:
        tape.watch(x)
        actual = layer(x, training=training)
        weights = np.random.default_rng(1).normal(size=actual.shape).astype("float32")
        total = tf.reduce_sum(actual * weights)
    np.testing.assert_array_equal(actual, repeated(MAP, factor))
    summed = weights.reshape(2, 3, factor, 5, factor, 6).sum(axis=(2, 4))
    np.testing.assert_allclose(tape.gradient(total, x), summed, atol=1e-4)


def test_a_map_of_any_size_is_upsampled():
    images = keras.Input((None, None, 6))
    model = keras.Model(images, NearestUpsample2D(4)(images))
    assert model.output_shape == (None, None, None, 6)
    np.testing.assert_array_equal(model(MAP), repeated(MAP, 4))


@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_the_delegate_supports_all_ops(quantize):
    layer = NearestUpsample2D(4)
    samples = [{"x": MAP[:1]}, {"x": MAP[1:]}]
    content = convert_network(
        lambda given: {"y": layer(given["x"])}, {"x": (1, 3, 5, 6)}, quantize=quantize, samples=samples
    )
    assert "TILE" not in list_ops(content)
    assert count_partitions(content) == 1
    step = np.ptp(MAP) / 255 if quantize == "int8" else 0
    np.testing.assert_allclose(TFLiteGraph(content).run(samples[0])["y"], repeated(MAP[:1], 4), atol=step)


@pytest.mark.parametrize("factor", [0, 3, 6])
def test_factors_other_than_powers_of_two_are_refused(factor):
    with pytest.raises(ValueError, match="power of two"):
        NearestUpsample2D(factor)
