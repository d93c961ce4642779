"""The moving average of the weights: how long it looks back, and how to use it for an evaluation."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras

# The average looks back over this share of a run, so that a short run's average is not still near its start.
_LOOK_BACK_SHARE = 1 / 20
_MIN_MOMENTUM = 0.9
# EfficientDet's decay (Tan et al. 2020, sec. 5.1), fit for runs of 10^5 steps and more.
_MAX_MOMENTUM = 0.9998


def ema_momentum(total_steps: int) -> float:
    """Returns the `ema_momentum` for an optimizer of a run of `total_steps` steps.

    The average looks back over about a twentieth of the run, within 0.9 and EfficientDet's 0.9998.

    Args:
        total_steps: Optimizer steps of the whole run.

    Raises:
        ValueError: If `total_steps` is not positive.
    """
    if total_steps < 1:
        raise ValueError(f"Expected total_steps to be positive, got {total_steps!r}. Give the run's steps.")
    return min(max(1 - 1 / (_LOOK_BACK_SHARE * total_steps), _MIN_MOMENTUM), _MAX_MOMENTUM)


@contextmanager
def ema_weights(model: keras.Model) -> Iterator[None]:
    """Puts the averaged weights into a model that is in training, and the raw ones back afterwards.

    Nothing happens where the optimizer keeps no average (`use_ema=False`, or no optimizer) or has taken no
    step yet, as the average is then all zeros. BatchNormalization's statistics are averages already and stay.

    Args:
        model: A compiled model; a LossScaleOptimizer around the averaging optimizer is seen through.
    """
    if not _has_average(model.optimizer):
        yield
        return
    raw = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    # The public way to the averages: Keras calls it itself when a fit ends.
    model.optimizer.finalize_variable_values(model.trainable_variables)
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_variables, raw, strict=True):
            variable.assign(value)


def _has_average(optimizer: keras.optimizers.Optimizer | None) -> bool:
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    if optimizer is None or not optimizer.use_ema or not optimizer.built:
        return False
    return int(keras.ops.convert_to_numpy(optimizer.iterations)) > 0
