"""What the forms of post-processing express and what they cannot."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from reference_loops import greedy

from keras_lightdet.boxes import SelectSpec
from keras_lightdet.deploy.postprocess import build_postprocess
from keras_lightdet.deploy.runtime import Graph
from keras_lightdet.deploy.tflite_convert import convert_float_part
from keras_lightdet.errors import ExportError

GAUSSIAN, LINEAR = SelectSpec(soft="gaussian"), SelectSpec(soft="linear")


class BoxPerClass:
    select, num_classes, input_size = SelectSpec(), 3, (40, 40)

    def decode(self, raw):
        return raw["boxes"], raw["scores"]


ONE_REGION = {
    "boxes": tf.constant([[[[0, 0, 10, 20], [4, 8, 12, 40], [1, 1, 2, 2]]]], tf.float32),
    "scores": tf.constant([[[0.3, 0.6, 0.0]]]),
}


@pytest.mark.parametrize(("select", "form"), [(LINEAR, "builtin"), (LINEAR, "custom_op"), (GAUSSIAN, "custom_op")])
def test_soft_suppression_that_a_file_cannot_express_is_refused(select, form):
    with pytest.raises(ExportError, match="gaussian"):
        build_postprocess(BoxPerClass(), form, select)


@pytest.mark.parametrize(("form", "tolerance"), [("builtin", {"rtol": 1e-6}), ("custom_op", {"rtol": 0, "atol": 1e-6})])
def test_each_class_may_have_its_own_box(form, tolerance):
    found = build_postprocess(BoxPerClass(), form)(ONE_REGION)
    assert found["count"].numpy().tolist() == [2]
    np.testing.assert_array_equal(found["labels"][0, :2], [1, 0])
    np.testing.assert_allclose(found["boxes"][0, :2], [[0.2, 0.1, 1.0, 0.3], [0, 0, 0.5, 0.25]], **tolerance)


@pytest.mark.parametrize("num_classes", [1, 3, 80, 1000])
@pytest.mark.parametrize("form", ["builtin", "custom_op"])
def test_a_file_keeps_classes_apart_however_many_there_are(form, num_classes):
    """Against greedy suppression in plain loops, with boxes as thin as a hair, without area and along the edges."""
    draw = np.random.default_rng(num_classes)
    low = np.round(draw.uniform(0, 30, (200, 2)))
    sides = draw.choice([0, 0.002, 1, 8, 10], (200, 2), p=[0.05, 0.05, 0.1, 0.4, 0.4])
    raw = {
        "boxes": np.minimum(np.concatenate([low, low + sides], axis=-1), 40)[None].astype("float32"),
        "scores": np.zeros((1, 200, num_classes), "float32"),
    }
    values = draw.permutation(np.linspace(0.01, 1, 300, dtype="float32"))
    raw["scores"][0, draw.integers(0, 200, 300), draw.integers(0, num_classes, 300)] = values

    select = dataclasses.replace(BoxPerClass.select, max_detections=300)
    function = build_postprocess(BoxPerClass(), form, select)
    shapes = {name: value.shape for name, value in raw.items()}
    found = Graph(convert_float_part(function, shapes, custom_ops=form == "custom_op")).run(raw)

    expected = greedy(raw["boxes"][0], raw["scores"][0], select)
    count = int(found["count"][0])
    assert count == len(expected) > 80
    np.testing.assert_array_equal(found["labels"][0, :count], expected[:, 5])
    np.testing.assert_array_equal(found["scores"][0, :count], np.float32(expected[:, 4]))
    # A side of hardly any length is widened to 1e-4 of the image.
    np.testing.assert_allclose(found["boxes"][0, :count], expected[:, [1, 0, 3, 2]] / 40, atol=6e-5)
    assert not np.any(found["boxes"][0, count:]) and not np.any(found["scores"][0, count:])
