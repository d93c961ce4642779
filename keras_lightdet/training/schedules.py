"""Learning rates over the steps of a run."""

import keras


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
