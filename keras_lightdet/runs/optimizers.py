"""Options of optimizers that the recipes share."""

from collections.abc import Sequence
from typing import Any, TypedDict

import keras

from keras_lightdet.training import ema_momentum, warmup_cosine

CLIP_NORM, FINAL_RATE = 10.0, 1e-6


class EmaOptions(TypedDict):
    """Arguments of a Keras optimizer that keeps a moving average of the weights."""

    use_ema: bool
    ema_momentum: float


def ema(total_steps: int) -> EmaOptions:
    """Returns the arguments of an optimizer that averages the weights over about a twentieth of the run.

    Args:
        total_steps: Steps of the whole run.
    """
    return {"use_ema": True, "ema_momentum": ema_momentum(total_steps)}


def adam_from_scratch(peak: float, steps_per_epoch: int, steps: int) -> keras.optimizers.Adam:
    """Returns RSANet's optimizer for training from scratch (Zhou et al. 2021), with averaged and clipped gradients.

    Its rate rises for one epoch, at most half of the run, to `peak`, and falls by a cosine to 1e-6.

    Args:
        peak: Highest learning rate; 1e-3 in the paper.
        steps_per_epoch: Steps of an epoch.
        steps: Steps of the whole run.
    """
    rate = warmup_cosine(peak, steps, min(steps_per_epoch, steps // 2), final=FINAL_RATE)
    return keras.optimizers.Adam(rate, global_clipnorm=CLIP_NORM, **ema(steps))


def sgd_with_l2(
    rate: keras.optimizers.schedules.LearningRateSchedule | float,
    decay: float,
    *,
    momentum: float = 0.9,
    exclude: Sequence[str] = (),
    **options: Any,
) -> keras.optimizers.SGD:
    """Returns SGD with the L2 regularization of the papers.

    The papers add `decay * weight` to the gradient, where momentum accumulates it. Keras subtracts
    `rate * weight_decay * weight` from the weight, after momentum, so `weight_decay` is `decay / (1 - momentum)`.

    Args:
        rate: Learning rate or schedule.
        decay: The papers' weight decay.
        momentum: Momentum of SGD.
        exclude: Parts of the names of variables without decay, such as "bias".
        **options: Further arguments of `keras.optimizers.SGD`.
    """
    optimizer = keras.optimizers.SGD(rate, momentum=momentum, weight_decay=decay / (1 - momentum), **options)
    if exclude:
        optimizer.exclude_from_weight_decay(var_names=list(exclude))
    return optimizer
