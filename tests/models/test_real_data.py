"""Detectors on real pictures: slow, and only where they are."""

import dataclasses

import keras
import numpy as np
import pytest
from shared_data import shared_data

import keras_lightdet
from keras_lightdet.data import AugmentSpec, eval_batches, fit_anchors, load_data, train_batches
from keras_lightdet.evaluation import evaluate_coco, evaluate_voc, predict_data
from keras_lightdet.training import warmup_cosine

STILL = AugmentSpec(zoom_out=0, crop=0, jitter=0, mosaic=0, brightness=0, contrast=0, saturation=0, hue=0)


@pytest.mark.slow
def test_rsanet_learns_eight_pictures_by_heart():
    data = _eight_pictures()
    model = keras_lightdet.RSANet(
        class_names=data.class_names, input_shape=(256, 256, 3), anchors=fit_anchors(data, (256, 256)).anchors
    )
    _learn_by_heart(model, data)


@pytest.mark.slow
def test_thundernet_learns_eight_pictures_by_heart():
    data = _eight_pictures()
    _learn_by_heart(
        keras_lightdet.ThunderNet(class_names=data.class_names, input_shape=(320, 320, 3), variant="snet49"), data
    )


@pytest.mark.slow
def test_retinanet_learns_eight_pictures_by_heart():
    data = _eight_pictures()
    _learn_by_heart(
        keras_lightdet.RetinaNet(class_names=data.class_names, input_shape=(256, 256, 3), variant="mobile_spinenet49"),
        data,
    )


def _eight_pictures():
    keras.utils.set_random_seed(0)
    data = load_data(shared_data("bccd"), "trainval")
    return dataclasses.replace(data, records=data.records[:8])


def _learn_by_heart(model, data, steps=400):
    """Trains without augmentation; the real networks have to reach the pictures that they saw."""
    model.compile(keras.optimizers.Adam(warmup_cosine(2e-3, steps, 20), global_clipnorm=10.0))
    batches = train_batches(data, model.input_size, len(data), seed=0, augment=STILL)
    model.fit(batches, steps_per_epoch=steps, verbose=0)
    detections = predict_data(model, data, len(data))
    assert evaluate_voc(data, detections, metric="area").figures()["mAP"] >= 0.95
    assert evaluate_coco(data, detections).figures()["AP50"] >= 0.95


def test_coco_mini_trains_and_is_scored():
    """Sparse ids, crowds and pictures without objects go through a few steps and COCO's figures."""
    folder = shared_data("coco_mini")
    data = load_data(folder, "train")
    test = load_data(folder, "val", class_names=data.class_names)
    assert len(data.class_names) == 80
    assert max(data.category_ids) == 90
    assert sum(int(record.ignore.sum()) for record in test.records) == 3
    assert sum(len(record.boxes) == 0 for record in test.records) == 2
    model = keras_lightdet.RSANet(
        class_names=data.class_names, input_shape=(64, 64, 3), widths=(4, 4, 8, 8, 8), repeats=(1, 1, 1, 1, 1)
    )
    model.compile(keras.optimizers.Adam(1e-3))
    batches = train_batches(data, (64, 64), 4, seed=0, augment=AugmentSpec())
    assert np.isfinite(model.fit(batches, steps_per_epoch=3, verbose=0).history["loss"][0])
    assert np.isfinite(model.evaluate(eval_batches(test, (64, 64), 8), verbose=0, return_dict=True)["loss"])
    figures = evaluate_coco(test, predict_data(model, test, 8)).figures()
    assert 0 <= figures["AP50"] < 0.1
