"""The moving average of the weights: its momentum for a run, and its use in evaluations."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras

# The average reaches back over this share of a run, so that a short run's average is not dominated by its first steps.
_WINDOW_SHARE = 1 / 20
_MIN_MOMENTUM = 0.9
# EfficientDet's decay (Tan et al. 2020, section 5.1), for runs of 10^5 steps and more.
_MAX_MOMENTUM = 0.9998


def ema_momentum(total_steps: int) -> float:
    """Returns the `ema_momentum` for an optimizer of a run of `total_steps` steps.

    The average reaches back over about a twentieth of the run; the momentum is within 0.9 and EfficientDet's 0.9998.

    Args:
        total_steps: Optimizer steps of the whole run.

    Raises:
        ValueError: If `total_steps` is not positive.
    """
    if total_steps < 1:
        raise ValueError(f"Expected total_steps to be positive, got {total_steps!r}. Pass the steps of the run.")
    return min(max(1 - 1 / (_WINDOW_SHARE * total_steps), _MIN_MOMENTUM), _MAX_MOMENTUM)


@contextmanager
def ema_weights(model: keras.Model) -> Iterator[None]:
    """Puts the averaged weights into a model that is in training, and restores the raw weights afterwards.

    Does nothing if the optimizer keeps no average (`use_ema=False`, or no optimizer) or has taken no step yet: the
    average is all zeros then. The statistics of BatchNormalization are averages already and stay.

    Args:
        model: A compiled model. Its averaging optimizer may be inside a LossScaleOptimizer.
    """
    if not _has_average(model.optimizer):
        yield
        return
    raw = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    # The public access to the averages: Keras calls it at the end of a fit.
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
