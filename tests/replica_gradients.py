"""Prints the largest difference, relative to the largest gradient, between one replica and two.

    python replica_gradients.py {one_stage,two_stage}

Both are fed by the package's own pipeline, on whose batches the strategy must leave no picture out and none twice.
"""

import dataclasses
import os
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

sys.path.insert(0, str(Path(__file__).parents[1]))

from small_detector import BUILDERS, SIDE

from keras_lightdet.boxes import SampleSpec
from keras_lightdet.data import AugmentSpec, draw_scenes, load_data, train_batches


def build(name, class_names):
    """Returns the detector; one of two stages counts all anchors and regions, as replicas draw different ones."""
    model = BUILDERS[name](class_names=class_names)
    if name == "two_stage":
        everything = SampleSpec(4000, 1.0)
        model.proposals = dataclasses.replace(model.proposals, sample=everything)
        model.regions = dataclasses.replace(model.regions, sample=everything)
    return model


def step(strategy, data):
    """Returns the gradients of one step as plain SGD applies them, and the loss it logs."""
    batches = train_batches(data, (SIDE, SIDE), 4, seed=0, augment=AugmentSpec())
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = build(sys.argv[1], data.class_names)
        model.compile(keras.optimizers.SGD(1.0))
    before = [w.numpy() for w in model.trainable_weights]
    loss = model.fit(batches, steps_per_epoch=1, verbose=0).history["loss"][0]
    return [b - w.numpy() for b, w in zip(before, model.trainable_weights, strict=True)], loss


# In float32 a mere change of the order of the pictures moves these gradients by 8e-5.
keras.config.set_dtype_policy("float64")
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
with tempfile.TemporaryDirectory() as folder:
    scenes = load_data(draw_scenes(folder, {"trainval": 6}), "trainval")
    one, one_loss = step(tf.distribute.OneDeviceStrategy("CPU:0"), scenes)
    two, two_loss = step(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), scenes)
scale = max(np.abs(g).max() for g in one)
assert np.isclose(one_loss, two_loss, rtol=1e-5), (one_loss, two_loss)
assert scale > 0.1, scale
print(max(np.abs(a - b).max() for a, b in zip(one, two, strict=True)) / scale, flush=True)
os._exit(0)  # the strategy's threads can keep the interpreter from ending
