"""How the two-stage recipes train: as their papers do from a trained backbone, as RSANet does from noise."""

from collections.abc import Sequence

import keras
from detector_run import DetectorRun

from keras_lightdet.training import ema_momentum, warmup_step

WARMUP_STEPS, WARMUP_START = 500, 1 / 3  # of Light-Head R-CNN's authors
MOMENTUM, DECAY = 0.9, 1e-4
CLIP_NORM = 10.0
# The demo's own rate of 3e-3 left two thirds of ThunderNet's hidden units dead after eight epochs, 7e-4 a fifth.
SCRATCH_RATE, SCRATCH_FINAL = 1e-3, 1e-6


def is_fine_tuning(args) -> bool:
    """Whether the paper's schedule is in its place: the start is a detector's weights or those of a classifier."""
    return bool(args.weights or args.weights_backbone)


def two_stage_optimizer(
    run: DetectorRun,
    *,
    rate: float,
    batch_size: int,
    drops: Sequence[float],
    warmup_steps: int = WARMUP_STEPS,
    warmup_start: float = WARMUP_START,
) -> keras.optimizers.Optimizer:
    """Returns the paper's SGD for a trained start, Adam for one from noise; both keep an average of the weights.

    Args:
        run: The run.
        rate: The paper's, for its `batch_size`; other batches get their share of it.
        batch_size: The paper's.
        drops: Shares of the run at which the rate falls to a tenth.
        warmup_steps: How long the rate rises.
        warmup_start: Share of the rate that it rises from.
    """
    steps = run.total_steps
    average = {"use_ema": True, "ema_momentum": ema_momentum(steps), "global_clipnorm": CLIP_NORM}
    if not is_fine_tuning(run.args):
        schedule = run.warmup_cosine(SCRATCH_RATE, SCRATCH_FINAL, demo_peak=SCRATCH_RATE)
        return keras.optimizers.Adam(schedule, **average)
    schedule = warmup_step(
        rate * run.args.batch_size / batch_size,
        tuple(round(steps * share) for share in drops),
        min(warmup_steps, steps // 10),
        warmup_start=warmup_start,
    )
    # Keras takes the decay off the weights, the papers put it into the gradients, where momentum sums it up.
    decay = DECAY / (1 - MOMENTUM)
    return keras.optimizers.SGD(schedule, momentum=MOMENTUM, weight_decay=decay, **average)
