"""A small detector with varied predictions, synthetic images, and its exports: each made once for all tests."""

import functools

import keras
import numpy as np
import pytest
from noise_images import draw_image
from small_detector import small_rsanet

from keras_lightdet.boxes import SelectSpec
from keras_lightdet.deploy import export_detection


@pytest.fixture(scope="session")
def images():
    return [draw_image(seed) for seed in range(10)]


@pytest.fixture(scope="session")
def model(images):
    """Random weights, the predictions scaled up so that positions, classes and images differ clearly."""
    keras.utils.set_random_seed(3)
    detector = small_rsanet(select=SelectSpec(score_threshold=0.25, max_detections=20))
    raw = detector(np.stack(images).astype(np.float32))
    spread = {"box": raw["box_deltas"], "objectness": raw["objectness"], "class": raw["class_logits"]}
    for layer in detector.network.layers:
        kind = layer.name.rpartition("_")[2]
        if kind in spread and isinstance(layer, keras.layers.Conv2D):
            layer.kernel.assign(layer.kernel * (1.0 if kind == "box" else 2.0) / float(np.std(spread[kind])))
            layer.bias.assign(np.zeros(layer.bias.shape))
    return detector


@pytest.fixture(scope="session")
def exported(model, images, tmp_path_factory):
    """Returns `(path, report)` of a quantization and a form, exported once each."""
    folder = tmp_path_factory.mktemp("tflite")

    @functools.cache
    def export(quantize, postprocess="builtin"):
        path = folder / f"{quantize}_{postprocess}.tflite"
        report = export_detection(model, path, quantize=quantize, postprocess=postprocess, calibration=images)
        return path, report

    return export
