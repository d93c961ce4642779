"""The optimizers of the recipes follow the papers' formulas."""

import keras
import numpy as np
import pytest

from keras_lightdet.runs import adam_from_scratch, ema, sgd_with_l2


def test_sgd_with_l2_adds_the_decay_to_the_gradient():
    """After many steps of gradient 0, momentum has accumulated the decay: Keras' weight_decay gives the same factor."""
    rate, decay, momentum, steps = 1e-3, 0.1, 0.9, 400
    weight = keras.Variable(1.0, name="kernel")
    optimizer = sgd_with_l2(rate, decay, momentum=momentum)
    optimizer.build([weight])
    expected, velocity = 1.0, 0.0
    for _ in range(steps):
        optimizer.apply([np.float32(0)])
        velocity = momentum * velocity + decay * expected
        expected -= rate * velocity
    assert float(weight.value) == pytest.approx(expected, rel=1e-2)  # momentum starts 9 steps late, 0.9 %
    assert expected < 0.7


def test_excluded_variables_do_not_decay():
    kernel, bias = keras.Variable([1.0], name="kernel"), keras.Variable([1.0], name="bias")
    optimizer = sgd_with_l2(0.1, 0.1, exclude=["bias"])
    optimizer.build([kernel, bias])
    optimizer.apply([np.float32([0]), np.float32([0])])
    assert float(kernel.value[0]) == pytest.approx(1 - 0.1 * 0.1 / (1 - 0.9)) and float(bias.value[0]) == 1.0


def test_ema_options_are_those_of_keras():
    assert ema(2000) == {"use_ema": True, "ema_momentum": 0.99}
    assert keras.optimizers.Adam(**ema(2000)).use_ema


@pytest.mark.parametrize(("steps_per_epoch", "steps", "warmup"), [(10, 100, 10), (10, 10, 5)])
def test_adam_from_scratch_warms_up_for_an_epoch_or_half_the_run(steps_per_epoch, steps, warmup):
    optimizer = adam_from_scratch(1e-3, steps_per_epoch, steps)
    rates = [float(optimizer._learning_rate(step)) for step in (0, warmup, steps)]
    assert rates == pytest.approx([1e-6, 1e-3, 1e-6], rel=1e-3)
    assert optimizer.global_clipnorm == 10.0 and optimizer.use_ema
