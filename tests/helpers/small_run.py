"""A small network with every kind of state that a checkpoint holds, trained in a process that tests may kill."""

import json
import multiprocessing
import os
from contextlib import nullcontext
from pathlib import Path

import keras
import tensorflow as tf

from keras_lightdet.training import TrainingCheckpoint, fit_resumable, warmup_cosine

STEPS, BATCH, SIDE, SEED = 6, 4, 16, 7

# One process imports TensorFlow; the others are forked from it, so that a start costs milliseconds.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tensorflow", "keras"])


def make_model(epochs, *, ballast=0, **compile_options):
    """Builds a network with BatchNormalization, dropout, averaged weights, Adam and a schedule."""
    keras.utils.set_random_seed(SEED)
    inputs = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, use_bias=False)(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Activation("relu")(x)
    x = keras.layers.SpatialDropout2D(0.2)(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same")(x)
    x = keras.layers.Conv2D(16, 1)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.3)(x)
    if ballast:  # Makes a save long enough to be hit in its middle.
        x = keras.layers.Dense(ballast)(x)
    model = keras.Model(inputs, keras.layers.Dense(2, dtype="float32")(x))
    schedule = warmup_cosine(1e-2, epochs * STEPS, STEPS)
    optimizer = keras.optimizers.Adam(schedule, use_ema=True, ema_momentum=0.9, global_clipnorm=1.0)
    model.compile(optimizer, loss="mse", metrics=["mae"], **compile_options)
    return model


def make_data(step):
    """Returns batches that depend on the seed and the step only."""

    def make_batch(index):
        seed = tf.stack([tf.constant(SEED, tf.int64), index])
        images = tf.random.stateless_uniform((BATCH, SIDE, SIDE, 3), seed=seed)
        return images, tf.stack([tf.reduce_mean(images, (1, 2, 3)), images[:, 0, 0, 0]], axis=1)

    return tf.data.Dataset.counter(step).map(make_batch).prefetch(1)


class StopAt(keras.callbacks.Callback):
    """Ends the run before a batch, by SIGKILL (`kill`) or by an exception."""

    def __init__(self, epoch, batch, *, kill):
        super().__init__()
        self._place, self._kill, self._epoch = (epoch, batch), kill, 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self._epoch, batch) == self._place:
            if self._kill:
                os.kill(os.getpid(), 9)
            raise InterruptedError


class LossLog(keras.callbacks.Callback):
    """A stateful callback that stores the logs of every epoch to the last bit."""

    def __init__(self, path):
        super().__init__()
        self._path, self._epochs = path, []

    def get_state(self):
        return {"epochs": self._epochs}

    def set_state(self, state):
        self._epochs = state["epochs"]

    def on_epoch_end(self, epoch, logs=None):
        self._epochs.append({name: float(value).hex() for name, value in logs.items()})

    def on_train_end(self, logs=None):
        weights = [keras.ops.convert_to_numpy(v).tobytes().hex() for v in self.model.weights[:3]]
        self._path.write_text(json.dumps({"epochs": self._epochs, "weights": weights}))


def train(folder, *, epochs=6, resume=False, every_seconds=None, stop_at=None, kill=False, replicas=1, **options):
    """Trains in `folder` and writes `log.json` at the end."""
    scope = nullcontext()
    if replicas > 1:
        devices = [tf.config.LogicalDeviceConfiguration()] * replicas
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
        scope = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)]).scope()
    with scope:
        model = make_model(epochs, **options)
    log = LossLog(Path(folder) / "log.json")
    checkpoint = TrainingCheckpoint(
        Path(folder) / "last", stateful=[log], every_seconds=every_seconds, run_config={"seed": SEED}
    )
    fit_resumable(
        model,
        make_data,
        epochs=epochs,
        steps_per_epoch=STEPS,
        checkpoint=checkpoint,
        callbacks=[log, *([StopAt(*stop_at, kill=kill)] if stop_at else [])],
        resume=resume,
    )


def train_in_process(folder, **options):
    """Runs `train` in a process, and returns the exit code: -9 if it was killed."""
    folder.mkdir(exist_ok=True)
    process = PROCESSES.Process(target=train, args=(str(folder),), kwargs=options)
    process.start()
    process.join()
    return process.exitcode


def read_log(folder):
    return json.loads((folder / "log.json").read_text())
