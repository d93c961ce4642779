"""Segmenters overfit real images; skipped where the data sets are missing."""

import dataclasses

import keras
import pytest
import tensorflow as tf
from shared_data import shared_data

import keras_lightdet
from keras_lightdet.data import load_segmentation, segmentation_train_batches
from keras_lightdet.evaluation import evaluate_segmentation
from keras_lightdet.training import warmup_poly

# DFANet's prime forms see images at half the height for their width, as in its paper. Logits of each image alone,
# fitted without any network, come to an mIoU of 0.94 at BiSeNet's 45 x 60; labels shrunk to DFANet's sizes to 0.95.
CASES = [
    (keras_lightdet.BiSeNet, "xception39", (360, 480), 400, 4e-3),
    (keras_lightdet.BiSeNet, "resnet18", (360, 480), 150, 4e-3),
    (keras_lightdet.DFANet, "a", (256, 256), 400, 2e-2),
    (keras_lightdet.DFANet, "a_prime", (192, 384), 400, 2e-2),
    (keras_lightdet.DFANet, "b", (256, 256), 400, 2e-2),
    (keras_lightdet.DFANet, "b_prime", (192, 384), 400, 2e-2),
]


@pytest.fixture(autouse=True)
def no_graph_optimizer():
    """TensorFlow's graph optimizer takes minutes for DFANet's training step."""
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})


@pytest.mark.slow
@pytest.mark.parametrize(("build", "variant", "size", "steps", "rate"), CASES, ids=[case[1] for case in CASES])
def test_a_segmenter_overfits_four_images(build, variant, size, steps, rate):
    data = load_segmentation(shared_data("camvid"), "train")
    data = dataclasses.replace(data, records=data.records[:4])
    keras.utils.set_random_seed(0)
    model = build(class_names=data.class_names, input_shape=(*size, 3), variant=variant)
    model.compile(keras.optimizers.Adam(warmup_poly(rate, steps, 20), global_clipnorm=10.0))
    model.fit(segmentation_train_batches(data, size, 4, seed=0, augment=None), steps_per_epoch=steps, verbose=0)
    assert evaluate_segmentation(model, data, 4).figures()["mIoU"] >= 0.85
