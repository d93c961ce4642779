"""A whole detector, whose layers share tensors many times over, must resume to the last bit too."""

import json

import keras
import pytest
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
    process = PROCESSES.Process(target=train, args=(folder, options, resume, stop_at))
    process.start()
    process.join()
    return process.exitcode


@pytest.mark.parametrize(
    "options",
    [
        {"widths": (8, 16, 16, 32, 64), "repeats": (1, 1, 1, 1, 1)},
        pytest.param({}, marks=pytest.mark.slow),
    ],
    ids=["tiny", "whole"],
)
def test_detector_killed_in_mid_epoch_ends_as_the_unbroken_run(tmp_path, options):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    for folder in (straight, killed):
        folder.mkdir()
    assert train_in_process(straight, options) == 0
    assert train_in_process(killed, options, stop_at=(0, 3)) == -9
    assert train_in_process(killed, options, resume=True) == 0
    logs = [json.loads((folder / "log.json").read_text()) for folder in (straight, killed)]
    assert logs[0] == logs[1]
    assert len(logs[0]["epochs"]) == EPOCHS
