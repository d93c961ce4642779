"""Learning rates over the steps of a run."""

from collections.abc import Sequence

import keras
from keras import ops


def warmup_cosine(
    peak: float, total_steps: int, warmup_steps: int = 0, *, final: float = 1e-6
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns a linear warm-up to `peak`, then a cosine down to `final` at the run's end.

    This is RSANet's training (Zhou et al. 2021: warm-up in epoch 1 to 1e-3, cosine down to 1e-6), built of
    Keras' CosineDecay. The warm-up starts at `final` and not at 0, so that no step is wasted.

    Args:
        peak: The highest learning rate, reached after `warmup_steps` steps.
        total_steps: Steps of the whole run, warm-up included; later steps stay at `final`.
        warmup_steps: Steps of the warm-up; 0 starts at `peak`.
        final: The last learning rate; 1e-6 in the paper.

    Raises:
        ValueError: If the steps leave nothing for the cosine, or `final` is not within 0..`peak`.
    """
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(
            f"Expected 0 <= warmup_steps < total_steps, got warmup_steps={warmup_steps!r} and "
            f"total_steps={total_steps!r}. Train for more steps or warm up for fewer."
        )
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
class WarmupDrops(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up to a rate that falls by a factor at given steps, as detectors of 2015 to 2020 were trained.

    Args:
        peak: The rate after the warm-up.
        drops: Steps at which the rate is multiplied by `factor`.
        warmup_steps: Steps of the warm-up, which starts at `peak * warmup_start`.
        factor: What a drop multiplies by.
        warmup_start: Share of `peak` at step 0.
    """

    def __init__(
        self,
        peak: float,
        drops: Sequence[int],
        warmup_steps: int = 0,
        *,
        factor: float = 0.1,
        warmup_start: float = 1 / 3,
    ):
        super().__init__()
        self.peak, self.drops, self.warmup_steps = peak, tuple(int(step) for step in drops), warmup_steps
        self.factor, self.warmup_start = factor, warmup_start

    def __call__(self, step):
        """Returns the rate of a step, float32."""
        step = ops.cast(step, "float32")
        rate = ops.convert_to_tensor(self.peak, "float32")
        for drop in self.drops:
            rate = ops.where(step >= drop, rate * self.factor, rate)
        if self.warmup_steps:
            share = ops.minimum(step / self.warmup_steps, 1.0)
            rate = rate * (self.warmup_start + (1.0 - self.warmup_start) * share)
        return rate

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        names = ("peak", "drops", "warmup_steps", "factor", "warmup_start")
        return {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable("keras_lightdet")
class WarmupPoly(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up to a rate that falls to 0 by `(1 - step / total_steps) ** power`, as segmenters are trained.

    Args:
        peak: The rate that the fall starts from.
        total_steps: Steps of the whole run, warm-up included; later steps have rate 0.
        warmup_steps: Steps of the warm-up, which starts at `peak * warmup_start`.
        power: 0.9 in BiSeNet (Yu et al. 2018, section 4.1) and DFANet.
        warmup_start: Share of the rate at step 0.

    Raises:
        ValueError: If the warm-up leaves nothing of the run.
    """

    def __init__(
        self, peak: float, total_steps: int, warmup_steps: int = 0, *, power: float = 0.9, warmup_start: float = 0.1
    ):
        super().__init__()
        if not 0 <= warmup_steps < total_steps:
            raise ValueError(
                f"Expected 0 <= warmup_steps < total_steps, got warmup_steps={warmup_steps!r} and "
                f"total_steps={total_steps!r}. Train for more steps or warm up for fewer."
            )
        self.peak, self.total_steps, self.warmup_steps = peak, total_steps, warmup_steps
        self.power, self.warmup_start = power, warmup_start

    def __call__(self, step):
        """Returns the rate of a step, float32."""
        step = ops.cast(step, "float32")
        rate = self.peak * ops.maximum(1.0 - step / self.total_steps, 0.0) ** self.power
        if self.warmup_steps:
            share = ops.minimum(step / self.warmup_steps, 1.0)
            rate = rate * (self.warmup_start + (1.0 - self.warmup_start) * share)
        return rate

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        names = ("peak", "total_steps", "warmup_steps", "power", "warmup_start")
        return {name: getattr(self, name) for name in names}
