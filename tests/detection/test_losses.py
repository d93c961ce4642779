"""Losses per element."""

import numpy as np
import pytest
import tensorflow as tf

from keras_lightdet.detection.losses import (
    huber,
    sigmoid_cross_entropy,
    sigmoid_focal_loss,
    smooth_l1,
    softmax_cross_entropy,
)


def test_smooth_l1_of_worked_examples():
    predictions, targets = np.float32([1.0, 1.5, -3.0, 2.0]), np.float32([1.0, 1.0, 1.0, 1.0])
    np.testing.assert_allclose(smooth_l1(targets, predictions), [0, 0.125, 3.5, 0.5])
    np.testing.assert_allclose(smooth_l1(targets, predictions, beta=2.0), [0, 0.0625, 3.0, 0.25])
    np.testing.assert_allclose(smooth_l1(targets, predictions, beta=0.0), [0, 0.5, 4.0, 1.0])


@pytest.mark.parametrize("beta", [1.0, 1 / 9])
def test_smooth_l1_is_continuous_in_value_and_slope(beta):
    points = tf.Variable(np.float32([beta * 0.9999, beta * 1.0001, -beta * 0.9999, 5.0, 0.0]))
    with tf.GradientTape() as tape:
        loss = smooth_l1(np.zeros(5, "float32"), points, beta=beta)
    assert float(loss[0]) == pytest.approx(float(loss[1]), rel=1e-3)
    np.testing.assert_allclose(tape.gradient(loss, points), [1, 1, -1, 1, 0], atol=1e-3)


def test_softmax_cross_entropy_is_the_negative_log_probability():
    logits = np.random.default_rng(0).normal(0, 3, (2, 4, 5)).astype("float32")
    labels = np.random.default_rng(1).integers(0, 5, (2, 4))
    probabilities = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(-1, keepdims=True)
    expected = -np.log(np.take_along_axis(probabilities, labels[..., None], -1)[..., 0])
    np.testing.assert_allclose(softmax_cross_entropy(labels, logits), expected, rtol=1e-5, atol=1e-6)


def test_large_logits_and_half_precision_stay_finite():
    logits = tf.constant([[300.0, -300.0]], tf.float16)
    assert float(softmax_cross_entropy(np.array([1]), logits)[0]) == pytest.approx(600)
    losses = sigmoid_cross_entropy(np.float16([[0, 1]]), tf.constant([[300.0, -300.0]], tf.float16))
    assert losses.dtype == tf.float32
    np.testing.assert_allclose(losses, [[300, 300]])


def test_sigmoid_cross_entropy_is_the_negative_log_probability():
    logits, targets = np.float32([-2, 0, 3]), np.float32([0.0, 0.25, 1.0])
    p = 1 / (1 + np.exp(-logits.astype(float)))
    expected = -targets * np.log(p) - (1 - targets) * np.log(1 - p)
    np.testing.assert_allclose(sigmoid_cross_entropy(targets, logits), expected, rtol=1e-6)


def test_a_negative_beta_is_rejected():
    with pytest.raises(ValueError, match="beta"):
        smooth_l1(np.zeros(1), np.zeros(1), beta=-1.0)


def test_huber_of_worked_examples():
    np.testing.assert_allclose(
        huber(np.zeros(3, "f4"), np.float32([0.05, -0.1, 2.0]), delta=0.1), [0.00125, 0.005, 0.195]
    )


@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
def test_focal_loss_equals_the_papers_equation(gamma):
    logits, targets = np.float32([-6, -1, 0, 2, 9, -6, -1, 0, 2, 9]), np.repeat(np.float32([0, 1]), 5)
    p = 1 / (1 + np.exp(-logits.astype(float)))
    p_t, alpha_t = np.where(targets == 1, p, 1 - p), np.where(targets == 1, 0.25, 0.75)
    expected = -alpha_t * (1 - p_t) ** gamma * np.log(p_t)
    np.testing.assert_allclose(sigmoid_focal_loss(targets, logits, gamma=gamma), expected, rtol=2e-5)


def test_focal_loss_and_gradient_of_extreme_logits_are_finite():
    logits = tf.Variable([300.0, -300.0, 300.0, -300.0])
    with tf.GradientTape() as tape:
        loss = sigmoid_focal_loss(np.float32([1, 1, 0, 0]), logits, gamma=1.5)
    np.testing.assert_allclose(loss, [0, 0.25 * 300, 0.75 * 300, 0], atol=1e-3)
    np.testing.assert_allclose(tape.gradient(loss, logits), [0, -0.25, 0.75, 0], atol=1e-3)
