"""Scores a classifier while it trains, and keeps its best weights with their record."""

import os

import keras
import tensorflow as tf

from keras_lightdet.training.ema import ema_weights
from keras_lightdet.weights import save_weights


class EvaluateClassifier(keras.callbacks.Callback):
    """Evaluates on a data set at the end of each epoch, with the averaged weights where the optimizer keeps them.

    The loss and the compiled metrics go into the logs as "val_loss", "val_accuracy", ..; callbacks that read logs or
    save checkpoints belong behind this one.

    Attributes:
        best_score: The best accuracy so far, 0..1; None before the first evaluation.

    Args:
        batches: One pass over the pictures to score on.
        best_path: The `.weights.h5` file that holds the best weights so far; the model has `architecture` and
            `class_names`, as classifiers of `keras_lightdet.backbones` do.
        metric: Name of the compiled metric that decides what is best, higher being better.
    """

    def __init__(self, batches: tf.data.Dataset, *, best_path: str | os.PathLike, metric: str = "accuracy"):
        super().__init__()
        self.batches, self.best_path, self.metric = batches, best_path, metric
        self.best_score: float | None = None

    @property
    def monitor(self) -> str:
        """The name in the logs of the figure that decides what is best."""
        return f"val_{self.metric}"

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Evaluates, adds to the logs, and saves the weights if they are best."""
        with ema_weights(self.model):
            figures = self.model.evaluate(self.batches, verbose=0, return_dict=True)
            score = figures[self.metric]
            if self.best_score is None or score > self.best_score:
                self.best_score = score
                save_weights(self.model, self.best_path)
        if logs is not None:
            logs.update({f"val_{name}": value for name, value in figures.items()})

    def get_state(self) -> dict:
        """Returns what a resumed run must know, as JSON-able data."""
        return {"best_score": self.best_score}

    def set_state(self, state: dict) -> None:
        """Takes up what `get_state` returned; where the file of the best weights is gone, there is none."""
        self.best_score = state["best_score"] if os.path.exists(self.best_path) else None
