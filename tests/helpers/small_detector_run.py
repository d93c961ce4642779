"""Trains a detector in its own process, which tests may kill."""

import keras
import tensorflow as tf
from small_run import PROCESSES, LossLog, StopAt

from keras_lightdet.models.rsanet import RSANet
from keras_lightdet.training import TrainingCheckpoint, fit_resumable, make_reproducible, warmup_cosine

SIDE, BATCH, STEPS, EPOCHS, SEED = 64, 4, 4, 2, 11


def make_data(step):
    def make_batch(index):
        seed = tf.stack([tf.constant(SEED, tf.int64), index])
        images = tf.random.stateless_uniform((BATCH, SIDE, SIDE, 3), seed, maxval=256, dtype=tf.int32)
        centers = tf.random.stateless_uniform((BATCH, 6, 2), seed, SIDE / 4, 3 * SIDE / 4)
        halves = tf.random.stateless_uniform((BATCH, 6, 2), seed, 3, SIDE / 4)
        targets = {
            "boxes": tf.concat([centers - halves, centers + halves], -1),
            "labels": tf.random.stateless_uniform((BATCH, 6), seed, maxval=3, dtype=tf.int32),
            "ignore": tf.zeros((BATCH, 6), tf.bool),
            "sources": tf.zeros((BATCH, 4), tf.int32),
        }
        return tf.cast(images, tf.uint8), targets

    return tf.data.Dataset.counter(step).map(make_batch).prefetch(1)


def train(folder, options, resume, stop_at):
    make_reproducible(SEED)
    model = RSANet(3, (SIDE, SIDE, 3), **options)
    schedule = warmup_cosine(1e-3, EPOCHS * STEPS, STEPS)
    model.compile(keras.optimizers.Adam(schedule, use_ema=True, ema_momentum=0.9, global_clipnorm=10.0))
    log = LossLog(folder / "log.json")
    fit_resumable(
        model,
        make_data,
        epochs=EPOCHS,
        steps_per_epoch=STEPS,
        checkpoint=TrainingCheckpoint(folder / "last", stateful=[log], every_seconds=0),
        callbacks=[log, *([StopAt(*stop_at, kill=True)] if stop_at else [])],
        resume=resume,
    )


def train_in_process(folder, options, *, resume=False, stop_at=None):
    """Runs `train` in a process and returns the exit code: -9 if it was killed."""
    process = PROCESSES.Process(target=train, args=(folder, options, resume, stop_at))
    process.start()
    process.join()
    return process.exitcode
