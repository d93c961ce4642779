"""Detectors overfit real images; skipped where the data sets are missing."""

import dataclasses

import keras
import numpy as np
import pytest
from shared_data import shared_data

import keras_lightdet
from keras_lightdet.boxes import PyramidAnchors, SelectSpec
from keras_lightdet.data import AugmentSpec, eval_batches, fit_anchors, load_data, train_batches
from keras_lightdet.detection import AnchorObjective, OneStageDetector
from keras_lightdet.evaluation import evaluate_coco, evaluate_voc, predict_detection
from keras_lightdet.layers import FUSIONS, NORM, dense_heads, fuse
from keras_lightdet.training import warmup_cosine

SIZE = (256, 256)
LEVELS = ("P3", "P4", "P5", "P6", "P7")
STILL = AugmentSpec(zoom_out=0, crop=0, jitter=0, mosaic=0, brightness=0, contrast=0, saturation=0, hue=0)


def eight_images():
    data = load_data(shared_data("bccd"), "trainval")
    return dataclasses.replace(data, records=data.records[:8])


def overfit(model, data, *, steps=400, rate=2e-3):
    """Trains on all of the data in every step, without augmentation, and detects in them."""
    model.compile(keras.optimizers.Adam(warmup_cosine(rate, steps, 20), global_clipnorm=10.0))
    batches = train_batches(data, model.input_size, len(data), seed=0, augment=STILL)
    model.fit(batches, steps_per_epoch=steps, verbose=0)
    return predict_detection(model, data, len(data))


@pytest.mark.slow
def test_rsanet_overfits_eight_images():
    data = eight_images()
    keras.utils.set_random_seed(0)
    anchors = fit_anchors(data, SIZE).anchors
    model = keras_lightdet.RSANet(class_names=data.class_names, input_shape=(*SIZE, 3), anchors=anchors)
    detections = overfit(model, data)
    assert evaluate_voc(data, detections, metric="area").figures()["mAP"] >= 0.95
    assert evaluate_coco(data, detections).figures()["AP50"] >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize(
    ("builder", "side", "options"),
    [
        ("ThunderNet", 320, {"variant": "snet49"}),
        ("RetinaNet", 256, {"variant": "mobile_spinenet49"}),
        # Platelets have sides of 16 pixels, the paper's smallest anchors 32.
        ("EfficientDet", 256, {"variant": "d0", "anchor_scale": 2.0}),
    ],
)
def test_a_detector_overfits_eight_images(builder, side, options):
    data = eight_images()
    keras.utils.set_random_seed(0)
    model = getattr(keras_lightdet, builder)(class_names=data.class_names, input_shape=(side, side, 3), **options)
    detections = overfit(model, data)
    assert evaluate_coco(data, detections).figures()["AP50"] >= 0.95


def small_fusion_net(fusion, class_names, size):
    """A narrow MobileNetV2, two cells of a fusion (one where it is not repeated), and EfficientDet's heads."""
    images = keras.Input((None, None, 3), name="images")
    features = keras_lightdet.backbones.MobileNetV2(width=0.35)(images)
    pyramid = fuse(
        {level: features[level] for level in LEVELS[:3]},
        FUSIONS[fusion].graph(len(LEVELS)),
        levels=LEVELS,
        width=48,
        repeats=2 if FUSIONS[fusion].repeated else 1,
        method=FUSIONS[fusion].method,
        activation="silu",
        norm=NORM,
        name="fusion",
    )
    heads = {"width": 48, "repeats": 2, "separable": True, "activation": "silu", "norm": NORM}
    raw = dense_heads(pyramid, len(class_names), per_cell=9, **heads)
    # Platelets have sides of 12 pixels at this size.
    anchors = PyramidAnchors.octaves([8, 16, 32, 64, 128], scale=1.5, offset=0.5)
    return OneStageDetector(
        keras.Model(images, raw, name="network"),
        AnchorObjective(anchors),
        class_names=class_names,
        input_size=size,
        select=SelectSpec(iou_threshold=0.5),
    )


@pytest.mark.slow
@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_overfits_eight_images(fusion):
    data = eight_images()
    keras.utils.set_random_seed(0)
    model = small_fusion_net(fusion, data.class_names, (192, 192))
    detections = overfit(model, data, steps=600, rate=4e-3)
    assert evaluate_coco(data, detections).figures()["AP50"] >= 0.95


def test_coco_mini_trains_and_is_evaluated():
    """Trains and evaluates on sparse ids, crowds and images without objects."""
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
    figures = evaluate_coco(test, predict_detection(model, test, 8)).figures()
    assert 0 <= figures["AP50"] < 0.1
