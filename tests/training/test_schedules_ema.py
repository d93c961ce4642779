import math

import keras
import numpy as np
import pytest

from keras_lightdet.training.ema import ema_momentum, ema_weights
from keras_lightdet.training.schedules import warmup_cosine, warmup_poly, warmup_step


@pytest.mark.parametrize(
    "step, rate",
    [
        (0, 1e-6),
        (50, (1e-3 + 1e-6) / 2),
        (100, 1e-3),
        (550, (1e-3 + 1e-6) / 2),
        (325, 1e-6 + (1e-3 - 1e-6) * (1 + math.cos(math.pi / 4)) / 2),
        (1000, 1e-6),
        (5000, 1e-6),
    ],
)
def test_warmup_is_linear_and_the_rest_a_cosine(step, rate):
    assert float(warmup_cosine(1e-3, 1000, 100)(step)) == pytest.approx(rate, rel=1e-4)


def test_cosine_without_warmup_starts_at_the_peak_and_is_serializable():
    schedule = warmup_cosine(0.1, 10, final=0.01)
    copy = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert [float(copy(s)) for s in (0, 5, 10)] == pytest.approx([0.1, 0.055, 0.01], rel=1e-5)


@pytest.mark.parametrize("arguments", [(1e-3, 10, 10), (1e-3, 10, -1), (0.0, 10, 1), (1e-7, 10, 1)])
def test_cosine_refuses_wrong_arguments(arguments):
    with pytest.raises(ValueError, match="Expected 0 <="):
        warmup_cosine(*arguments)


# 0.01 over 16 images, 500 steps of warm-up from a third, drops at 1900 and 2500.
@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 0.01 / 3),
        (250, 0.01 * 2 / 3),
        (500, 0.01),
        (1899, 0.01),
        (1900, 0.001),
        (2499, 0.001),
        (2500, 0.0001),
        (10**6, 0.0001),
    ],
)
def test_drops_to_a_tenth_follow_the_warmup(step, rate):
    assert float(warmup_step(0.01, (1900, 2500), 500)(step)) == pytest.approx(rate, rel=1e-5)


def test_a_drop_within_the_warmup_applies_from_its_step_on():
    """At step 4 of 10: half of (1/2 + 1/2 * 4/10) = 0.35; without warm-up it starts at the peak."""
    schedule = warmup_step(1.0, (4,), 10, factor=0.5, warmup_start=0.5)
    assert [float(schedule(step)) for step in (0, 3, 4, 10)] == pytest.approx([0.5, 0.65, 0.35, 0.5])
    assert float(warmup_step(0.2, ())(0)) == pytest.approx(0.2)


def test_step_schedule_is_serializable():
    schedule = warmup_step(0.3, (2, 5), 3, factor=0.2, warmup_start=0.1)
    copy = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    steps = range(8)
    assert [float(copy(s)) for s in steps] == [float(schedule(s)) for s in steps]
    assert float(copy(5)) == pytest.approx(0.3 * 0.2**2)


def test_momentum_averages_over_a_twentieth_of_the_run():
    assert [ema_momentum(steps) for steps in (1, 200, 2000, 10**7)] == pytest.approx([0.9, 0.9, 0.99, 0.9998])


def _one_weight_model(optimizer):
    """y = w x with loss w x: under SGD(0.1) and x = 1 the weight falls by 0.1 a step."""
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")(inputs))
    model.compile(optimizer, loss=lambda y, y_pred: y_pred)
    return model


@pytest.mark.parametrize("wrap", [lambda o: o, keras.optimizers.LossScaleOptimizer], ids=["plain", "scaled"])
def test_average_is_used_and_the_raw_weight_restored(wrap):
    model = _one_weight_model(wrap(keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)))
    with ema_weights(model):  # No step was taken: the averages are zeros and must not be used.
        assert model.get_weights()[0] == 1.0
    x = np.ones((3, 1), np.float32)
    model.fit(x, x, batch_size=1, epochs=1, verbose=0, shuffle=False)
    model.trainable_variables[0].assign([[0.7]])  # The end of a fit leaves the average in the model.
    raw = model.get_weights()[0].copy()
    # Weights after the steps are 0.9, 0.8, 0.7; the average begins with the first.
    average = 0.5 * (0.5 * 0.9 + 0.5 * 0.8) + 0.5 * 0.7
    with pytest.raises(KeyError), ema_weights(model):
        assert model.get_weights()[0] == pytest.approx(average)
        raise KeyError
    assert model.get_weights()[0] == raw


def test_without_average_the_weights_stay():
    model = _one_weight_model(keras.optimizers.SGD(0.1))
    x = np.ones((1, 1), np.float32)
    model.fit(x, x, verbose=0)
    with ema_weights(model):
        assert model.get_weights()[0] == pytest.approx(0.9)


def test_warmup_poly_by_hand():
    schedule = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(warmup_poly(0.1, 100, 10)))
    expected = {0: 0.1 * 0.1, 5: 0.1 * 0.95**0.9 * 0.55, 10: 0.1 * 0.9**0.9, 50: 0.1 * 0.5**0.9, 100: 0.0, 120: 0.0}
    for step, rate in expected.items():
        assert float(schedule(step)) == pytest.approx(rate, abs=1e-8)
    with pytest.raises(ValueError, match="warmup_steps=100"):
        warmup_poly(0.1, 100, 100)
