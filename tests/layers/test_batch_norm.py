from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_lightdet.layers import FusedBatchNormalization


def pair(dtype="float32"):
    """This package's layer and Keras' with the same weights."""
    kinds = (FusedBatchNormalization, keras.layers.BatchNormalization)
    layers = [kind(momentum=0.9, epsilon=1e-3, dtype=dtype) for kind in kinds]
    random = np.random.default_rng(0)
    values = [random.uniform(0.5, 2, 6).astype("float32") for _ in range(4)]
    for layer in layers:
        layer.build((None, None, None, 6))
        layer.set_weights(values)
    return layers


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "float64"])
def test_outputs_gradients_and_statistics_equal_those_of_keras(dtype):
    x = tf.Variable(np.random.default_rng(1).normal(2, 3, (3, 5, 4, 6)).astype("float32"))
    answers = []
    for layer in pair(dtype):
        with tf.GradientTape() as tape:
            y = layer(x, training=True)
            loss = tf.reduce_sum(tf.cast(y, tf.float32) ** 3)
        gradients = tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])
        answers.append([y, *gradients, layer.moving_mean.numpy(), layer.moving_variance.numpy()])
    tolerance = 5e-3 if dtype == "mixed_float16" else 1e-4
    count = 3 * 5 * 4
    # The moving variance takes in 0.1 of the unbiased batch variance.
    batch_variance = np.var(x.numpy(), axis=(0, 1, 2))
    answers[1][-1] = answers[1][-1] + 0.1 * batch_variance * (count / (count - 1) - 1)
    for ours, theirs in zip(*answers, strict=True):
        scale = np.abs(np.float64(theirs)).max()
        np.testing.assert_allclose(np.float64(ours) / scale, np.float64(theirs) / scale, atol=tolerance)


def test_inference_and_frozen_layers_use_the_moving_statistics():
    x = np.random.default_rng(1).normal(2, 3, (3, 5, 4, 6)).astype("float32")
    ours, theirs = pair()
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-5)
    ours.trainable = theirs.trainable = False
    np.testing.assert_allclose(ours(x, training=True), theirs(x, training=True), rtol=1e-5)
    np.testing.assert_array_equal(ours.moving_mean, theirs.moving_mean)


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "float64"])
def test_the_moving_averages_are_initialized_by_the_first_batch(dtype):
    random = np.random.default_rng(1)
    first, second = (random.normal(2, 0.3, (3, 5, 4, 6)).astype(np.float32) for _ in range(2))
    layer = FusedBatchNormalization(momentum=0.9, dtype=dtype)
    layer(first, training=True)
    means, variances = ([f(x, axis=(0, 1, 2)) for x in (first, second)] for f in (np.mean, partial(np.var, ddof=1)))
    rtol = 5e-3 if dtype == "mixed_float16" else 1e-4
    np.testing.assert_allclose(layer.moving_mean, means[0], rtol=rtol)
    np.testing.assert_allclose(layer.moving_variance, variances[0], rtol=rtol)
    layer(second, training=True)
    np.testing.assert_allclose(layer.moving_mean, 0.9 * means[0] + 0.1 * means[1], rtol=rtol)
    np.testing.assert_allclose(layer.moving_variance, 0.9 * variances[0] + 0.1 * variances[1], rtol=rtol)


def test_the_layer_is_restored_from_its_config():
    config = keras.saving.serialize_keras_object(FusedBatchNormalization(momentum=0.8))
    again = keras.saving.deserialize_keras_object(config)
    assert isinstance(again, FusedBatchNormalization)
    assert again.momentum == 0.8
    assert again.synchronized


def test_fixed_statistics_are_used_in_training_of_gamma_and_beta():
    x = np.random.default_rng(1).normal(2, 3, (3, 5, 4, 6)).astype("float32")
    ours, theirs = pair()
    ours.fixed_statistics = True
    before = ours.moving_variance.numpy()
    with tf.GradientTape() as tape:
        y = ours(x, training=True)
        loss = tf.reduce_sum(y**3)
    np.testing.assert_allclose(y, theirs(x, training=False), rtol=1e-5)
    np.testing.assert_array_equal(ours.moving_variance, before)
    gradients = tape.gradient(loss, ours.trainable_weights)
    assert len(gradients) == 2 and all(np.all(np.abs(g) > 0) for g in gradients)
    assert FusedBatchNormalization.from_config(ours.get_config()).fixed_statistics
