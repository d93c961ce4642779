"""The forms of post-processing and their limits."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from reference_loops import nms_by_loops

from keras_lightdet.boxes import SelectSpec
from keras_lightdet.deploy.postprocess import build_postprocess
from keras_lightdet.deploy.runtime import TFLiteGraph
from keras_lightdet.deploy.tflite_convert import convert_function
from keras_lightdet.errors import ExportError

GAUSSIAN, LINEAR = SelectSpec(soft_nms="gaussian"), SelectSpec(soft_nms="linear")


class BoxPerClass:
    select, num_classes, input_size = SelectSpec(), 3, (40, 40)

    def decode(self, raw):
        return raw["boxes"], raw["scores"]


ONE_REGION = {
    "boxes": tf.constant([[[[0, 0, 10, 20], [4, 8, 12, 40], [1, 1, 2, 2]]]], tf.float32),
    "scores": tf.constant([[[0.3, 0.6, 0.0]]]),
}


@pytest.mark.parametrize(("select", "form"), [(LINEAR, "builtin"), (LINEAR, "custom_op"), (GAUSSIAN, "custom_op")])
def test_soft_nms_that_a_file_cannot_express_is_rejected(select, form):
    with pytest.raises(ExportError, match="gaussian"):
        build_postprocess(BoxPerClass(), form, select)


@pytest.mark.parametrize(("form", "tolerance"), [("builtin", {"rtol": 1e-6}), ("custom_op", {"rtol": 0, "atol": 1e-6})])
def test_each_class_may_have_its_own_box(form, tolerance):
    outputs = build_postprocess(BoxPerClass(), form)(ONE_REGION)
    assert outputs["count"].numpy().tolist() == [2]
    np.testing.assert_array_equal(outputs["labels"][0, :2], [1, 0])
    np.testing.assert_allclose(outputs["boxes"][0, :2], [[0.2, 0.1, 1.0, 0.3], [0, 0, 0.5, 0.25]], **tolerance)


@pytest.mark.parametrize("num_classes", [1, 3, 80, 1000])
@pytest.mark.parametrize("form", ["builtin", "custom_op"])
def test_nms_is_class_wise_for_any_number_of_classes(form, num_classes):
    """Compares with greedy NMS in loops on very thin boxes, boxes without area and boxes along the borders."""
    random = np.random.default_rng(num_classes)
    low = np.round(random.uniform(0, 30, (200, 2)))
    sides = random.choice([0, 0.002, 1, 8, 10], (200, 2), p=[0.05, 0.05, 0.1, 0.4, 0.4])
    raw = {
        "boxes": np.minimum(np.concatenate([low, low + sides], axis=-1), 40)[None].astype("float32"),
        "scores": np.zeros((1, 200, num_classes), "float32"),
    }
    values = random.permutation(np.linspace(0.01, 1, 300, dtype="float32"))
    raw["scores"][0, random.integers(0, 200, 300), random.integers(0, num_classes, 300)] = values

    select = dataclasses.replace(BoxPerClass.select, max_detections=300)
    function = build_postprocess(BoxPerClass(), form, select)
    shapes = {name: value.shape for name, value in raw.items()}
    outputs = TFLiteGraph(convert_function(function, shapes, custom_ops=form == "custom_op")).run(raw)

    expected = nms_by_loops(raw["boxes"][0], raw["scores"][0], select)
    count = int(outputs["count"][0])
    assert count == len(expected) > 80
    np.testing.assert_array_equal(outputs["labels"][0, :count], expected[:, 5])
    np.testing.assert_array_equal(outputs["scores"][0, :count], np.float32(expected[:, 4]))
    # A very short side is widened to 1e-4 of the image.
    np.testing.assert_allclose(outputs["boxes"][0, :count], expected[:, [1, 0, 3, 2]] / 40, atol=6e-5)
    assert not np.any(outputs["boxes"][0, count:]) and not np.any(outputs["scores"][0, count:])
