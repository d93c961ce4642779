"""Prints the largest difference, relative to the largest gradient, between one replica and two.

    python replica_gradients.py {one_stage,two_stage,toy,bisenet,dfanet}

The data come from the package's own pipelines, of whose batches the strategy must use each image once.
"""

import dataclasses
import os
import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf
from small_detector import BUILDERS, SIDE
from small_segmenter import BUILDERS as SEGMENTERS
from small_segmenter import SIZE

from keras_lightdet.boxes import SampleSpec
from keras_lightdet.data import (
    AugmentSpec,
    SegmentationAugmentSpec,
    draw_scenes,
    draw_segmentation_scenes,
    load_data,
    load_segmentation,
    segmentation_train_batches,
    train_batches,
)

BATCH = 4


def build(name, class_names):
    """Returns the model; a two-stage detector counts all anchors and regions, as replicas draw different samples."""
    model = {**BUILDERS, **SEGMENTERS}[name](class_names=class_names)
    if name == "two_stage":
        everything = SampleSpec(4000, 1.0)
        model.proposal_objective = dataclasses.replace(model.proposal_objective, sample=everything)
        model.region_objective = dataclasses.replace(model.region_objective, sample=everything)
    return model


def make_data(name, folder):
    """Returns class names and batches of synthetic scenes."""
    if name in SEGMENTERS:
        scenes = load_segmentation(draw_segmentation_scenes(folder, {"train": 6}), "train")
        return scenes.class_names, segmentation_train_batches(
            scenes, SIZE, BATCH, seed=0, augment=SegmentationAugmentSpec()
        )
    scenes = load_data(draw_scenes(folder, {"trainval": 6}), "trainval")
    return scenes.class_names, train_batches(scenes, (SIDE, SIDE), BATCH, seed=0, augment=AugmentSpec())


def step(strategy, name, class_names, batches):
    """Returns the gradients of one step as SGD applies them, and the logged loss."""
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = build(name, class_names)
        model.compile(keras.optimizers.SGD(1.0))
    before = [w.numpy() for w in model.trainable_weights]
    loss = model.fit(batches, steps_per_epoch=1, verbose=0).history["loss"][0]
    return [b - w.numpy() for b, w in zip(before, model.trainable_weights, strict=True)], loss


# In float32 another order of the images changes these gradients by 8e-5.
keras.config.set_dtype_policy("float64")
# The optimizer takes longer than the two steps.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
with tempfile.TemporaryDirectory() as folder:
    data = make_data(sys.argv[1], folder)
    expected, expected_loss = step(tf.distribute.OneDeviceStrategy("CPU:0"), sys.argv[1], *data)
    # The default packs all gradients into one tensor; those of the class layers are float32 under any policy.
    reduction = tf.distribute.ReductionToOneDevice()
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], cross_device_ops=reduction)
    gradients, loss = step(strategy, sys.argv[1], *data)
scale = max(np.abs(g).max() for g in expected)
assert np.isclose(expected_loss, loss, rtol=1e-5), (expected_loss, loss)
assert scale > 0.1, scale
print(max(np.abs(a - b).max() for a, b in zip(expected, gradients, strict=True)) / scale, flush=True)
os._exit(0)  # the strategy's threads can prevent a normal exit
