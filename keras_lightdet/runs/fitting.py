"""The fit of a run: initial weights, callbacks, checkpoints, and the best weights at the end."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from keras_lightdet.data import ClassificationData, DetectionData, SegmentationData
from keras_lightdet.evaluation import KeepBestWeights
from keras_lightdet.runs.fingerprints import fingerprint
from keras_lightdet.runs.settings import RunSettings
from keras_lightdet.training import HaltOnNaN, ProgressLines, RunLog, TrainingCheckpoint, fit_resumable
from keras_lightdet.weights import load_trunk, load_weights, read_record, resolve_weights

Data: TypeAlias = DetectionData | SegmentationData | ClassificationData


def load_initial_weights(model: keras.Model, settings: RunSettings) -> None:
    """Loads `--weights` if it is set, without the class predictions if the classes differ."""
    if settings.weights is None:
        return
    path = resolve_weights(settings.weights)
    same_classes = tuple(read_record(path)["class_names"]) == tuple(model.class_names)
    (load_weights if same_classes else load_trunk)(model, path)
    print(f"initial weights: {settings.weights}" + ("" if same_classes else ", class predictions from scratch"))


def standard_callbacks(
    settings: RunSettings, evaluation: KeepBestWeights, train_data: Data
) -> list[keras.callbacks.Callback]:
    """Returns the callbacks of a run: it halts on NaN, evaluates, and writes metrics.json, progress and TensorBoard."""
    return [
        HaltOnNaN(train_data),
        evaluation,
        RunLog(settings.output_dir / "metrics.json", best=evaluation.monitor),
        ProgressLines(),
        keras.callbacks.TensorBoard(settings.output_dir / "logs", write_graph=False),
    ]


def run_config(settings: RunSettings, *data: Data, **facts: Any) -> dict[str, Any]:
    """Returns what identifies a run: a checkpoint is restored only if it was saved with the same.

    Args:
        settings: The settings, of which those that do not change the training are left out.
        *data: The training data and the data that select the best weights.
        **facts: Further values, such as the augmentation.
    """
    identity = {**settings.identity(), "classes": data[0].class_names, "data": [fingerprint(each) for each in data]}
    return {**identity, **{key: _to_plain(value) for key, value in facts.items()}}


def fit(
    model: keras.Model,
    make_batches: Callable[..., tf.data.Dataset],
    settings: RunSettings,
    evaluation: KeepBestWeights,
    train_data: Data,
    validation_data: Data,
    **facts: Any,
) -> None:
    """Trains a compiled model, or resumes its training, and leaves its best weights in it.

    It writes `best.weights.h5` with its record, `last/` with the checkpoints, `metrics.json`, `labels.txt` and `logs/`
    to the output folder.

    Args:
        model: A compiled model with `class_names`.
        make_batches: Builds the endless training batches from the step `start_step` on.
        settings: The settings of the run.
        evaluation: Evaluates the model on `validation_data` and keeps the best weights.
        train_data: The training data.
        validation_data: The data that select the best weights.
        **facts: What else identifies the run, see `run_config`.
    """
    folder = settings.output_dir
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.txt").write_text("\n".join(model.class_names) + "\n", encoding="utf-8")
    callbacks = standard_callbacks(settings, evaluation, train_data)
    stateful = [callback for callback in callbacks if hasattr(callback, "get_state")]
    config = run_config(settings, train_data, validation_data, **facts)
    fit_resumable(
        model,
        lambda step: make_batches(start_step=step),
        epochs=settings.epochs,
        steps_per_epoch=settings.count_steps(len(train_data))[0],
        checkpoint=TrainingCheckpoint(folder / "last", stateful=stateful, run_config=config),
        callbacks=callbacks,
        resume=settings.resume,
    )
    load_weights(model, settings.best_path)


def _to_plain(value: Any) -> Any:
    """Returns a dataclass as a dict, other values as they are."""
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
