"""Learning-rate schedules with a linear warm-up: to a constant with drops, a polynomial, or a cosine."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops

from keras_lightdet.types import Config, Tensor

Schedule: TypeAlias = keras.optimizers.schedules.LearningRateSchedule


def warmup_step(
    peak: float, drops: Sequence[int], warmup_steps: int = 0, *, factor: float = 0.1, warmup_start: float = 1 / 3
) -> Schedule:
    """Returns a linear warm-up to `peak`, a rate that is multiplied by `factor` at each step of `drops`.

    Args:
        peak: Learning rate after the warm-up.
        drops: Steps, ascending, from which on the rate is multiplied by `factor` once more.
        warmup_steps: Steps of the warm-up; 0 starts at `peak`.
        factor: Multiplier of a drop.
        warmup_start: Share of `peak` at step 0.
    """
    values = [np.float32(peak)]
    for _ in drops:
        values.append(values[-1] * np.float32(factor))
    # Keras changes the value after a boundary, here it changes at the step of the drop.
    boundaries = [int(drop) - 1 for drop in drops]
    rate: Schedule | float = float(peak)
    if boundaries:
        rate = keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, [float(value) for value in values])
    return LinearWarmup(rate, warmup_steps, warmup_start)


def warmup_poly(
    peak: float, total_steps: int, warmup_steps: int = 0, *, power: float = 0.9, warmup_start: float = 0.1
) -> Schedule:
    """Returns `peak * (1 - step / total_steps) ** power`, multiplied in the warm-up by a linear ramp to 1.

    The schedule of segmenters: power 0.9 in BiSeNet (Yu et al. 2018, section 4.1) and DFANet (Li et al. 2019).

    Args:
        peak: Learning rate from which the polynomial falls.
        total_steps: Steps of the whole run, warm-up included; later steps have rate 0.
        warmup_steps: Steps of the warm-up; 0 starts at `peak`.
        power: Exponent of the polynomial.
        warmup_start: Share of the rate at step 0.

    Raises:
        ValueError: If `warmup_steps` is not within `0..total_steps - 1`.
    """
    _check_steps(total_steps, warmup_steps)
    decay = keras.optimizers.schedules.PolynomialDecay(peak, total_steps, end_learning_rate=0.0, power=power)
    return LinearWarmup(decay, warmup_steps, warmup_start)


def warmup_cosine(peak: float, total_steps: int, warmup_steps: int = 0, *, final: float = 1e-6) -> Schedule:
    """Returns a linear warm-up to `peak`, then a cosine down to `final` at the end of the run.

    RSANet's schedule (Zhou et al. 2021): warm-up to 1e-3 in epoch 1, cosine down to 1e-6. The warm-up starts at `final`
    instead of 0, so that the first step has an effect.

    Args:
        peak: Highest learning rate, reached after `warmup_steps` steps.
        total_steps: Steps of the whole run, warm-up included; later steps stay at `final`.
        warmup_steps: Steps of the warm-up; 0 starts at `peak`.
        final: Last learning rate.

    Raises:
        ValueError: If `warmup_steps` is not within `0..total_steps - 1`, or `final` not within `0..peak`.
    """
    _check_steps(total_steps, warmup_steps)
    if not 0 <= final <= peak or peak == 0:
        raise ValueError(f"Expected 0 <= final <= peak and peak > 0, got final={final!r} and peak={peak!r}. Raise it.")
    if warmup_steps == 0:
        return keras.optimizers.schedules.CosineDecay(peak, total_steps, alpha=final / peak)
    return keras.optimizers.schedules.CosineDecay(
        final,
        total_steps - warmup_steps,
        alpha=final / peak,
        warmup_target=peak,
        warmup_steps=warmup_steps,
    )


@keras.saving.register_keras_serializable("keras_lightdet")
class LinearWarmup(Schedule):
    """A rate or schedule, multiplied by a line from `warmup_start` at step 0 to 1 at step `warmup_steps`."""

    def __init__(self, rate: Schedule | float, warmup_steps: int, warmup_start: float):
        super().__init__()
        self.rate, self.warmup_steps, self.warmup_start = rate, warmup_steps, warmup_start

    def __call__(self, step: Tensor) -> Tensor:
        """Returns the rate of a step, float32."""
        step = ops.cast(step, "float32")
        rate = self.rate(step) if callable(self.rate) else ops.convert_to_tensor(self.rate, "float32")
        if self.warmup_steps:
            share = ops.minimum(step / self.warmup_steps, 1.0)
            rate = rate * (self.warmup_start + (1.0 - self.warmup_start) * share)
        return rate

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        rate = keras.saving.serialize_keras_object(self.rate)
        return {"rate": rate, "warmup_steps": self.warmup_steps, "warmup_start": self.warmup_start}

    @classmethod
    def from_config(cls, config: Config) -> "LinearWarmup":
        """Rebuilds the schedule that `get_config` described."""
        arguments: dict[str, Any] = {**config, "rate": keras.saving.deserialize_keras_object(config["rate"])}
        return cls(**arguments)


def _check_steps(total_steps: int, warmup_steps: int) -> None:
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(
            f"Expected 0 <= warmup_steps < total_steps, got warmup_steps={warmup_steps!r} and "
            f"total_steps={total_steps!r}. Train for more steps or warm up for fewer."
        )
