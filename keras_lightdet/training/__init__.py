"""Schedules, averaged weights, checkpoints, resume, and the callbacks that stop and report a run."""

from keras_lightdet.training.checkpoint import TrainingCheckpoint, TrainingState, restore
from keras_lightdet.training.ema import ema_momentum, ema_weights
from keras_lightdet.training.halt_on_nan import HaltOnNaN
from keras_lightdet.training.progress import ProgressLines
from keras_lightdet.training.reproducible import make_reproducible
from keras_lightdet.training.run import fit_resumable
from keras_lightdet.training.run_log import RunLog
from keras_lightdet.training.schedules import warmup_cosine, warmup_poly, warmup_step

__all__ = [
    "HaltOnNaN",
    "ProgressLines",
    "RunLog",
    "TrainingCheckpoint",
    "TrainingState",
    "ema_momentum",
    "ema_weights",
    "fit_resumable",
    "make_reproducible",
    "restore",
    "warmup_cosine",
    "warmup_poly",
    "warmup_step",
]
