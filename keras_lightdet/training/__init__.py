"""What a run needs beside the model and the data: schedules, guards, checkpoints, resume and its log."""

from keras_lightdet.training.checkpoint import TrainingCheckpoint, TrainingState, restore
from keras_lightdet.training.ema import ema_momentum, ema_weights
from keras_lightdet.training.guards import RaiseOnNonFinite, StopOnNonFinite
from keras_lightdet.training.progress import ProgressLines
from keras_lightdet.training.reproducible import make_reproducible
from keras_lightdet.training.run import fit_resumable
from keras_lightdet.training.run_log import RunLog
from keras_lightdet.training.schedules import WarmupDrops, WarmupPoly, warmup_cosine

__all__ = [
    "ProgressLines",
    "RunLog",
    "RaiseOnNonFinite",
    "StopOnNonFinite",
    "TrainingCheckpoint",
    "TrainingState",
    "WarmupDrops",
    "WarmupPoly",
    "ema_momentum",
    "ema_weights",
    "fit_resumable",
    "make_reproducible",
    "restore",
    "warmup_cosine",
]
