"""Prints the largest difference, relative to the largest gradient, between one replica and two."""

import os
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

sys.path.insert(0, str(Path(__file__).parents[1]))

from small_detector import random_batch, small_rsanet


def step(strategy):
    """Returns the gradients of one step as plain SGD applies them, and the loss it logs."""
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = small_rsanet()
        model.compile(keras.optimizers.SGD(1.0))
    before = [w.numpy() for w in model.trainable_weights]
    data = tf.data.Dataset.from_tensor_slices(random_batch(batch=4)).batch(4)
    loss = model.fit(data, verbose=0).history["loss"][0]
    return [b - w.numpy() for b, w in zip(before, model.trainable_weights, strict=True)], loss


# In float32 a mere change of the order of the pictures moves these gradients by 8e-5.
keras.config.set_dtype_policy("float64")
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
one, one_loss = step(tf.distribute.OneDeviceStrategy("CPU:0"))
two, two_loss = step(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
scale = max(np.abs(g).max() for g in one)
assert np.isclose(one_loss, two_loss, rtol=1e-5), (one_loss, two_loss)
assert scale > 0.1, scale
print(max(np.abs(a - b).max() for a, b in zip(one, two, strict=True)) / scale, flush=True)
os._exit(0)  # the strategy's threads can keep the interpreter from ending
