"""Merging two flatbuffers: the merged one computes the outputs of the second from those of the first."""

import numpy as np
import pytest
import tensorflow as tf

from keras_lightdet.deploy.merge_flatbuffers import merge_flatbuffers
from keras_lightdet.deploy.runtime import TFLiteGraph
from keras_lightdet.deploy.tflite_convert import convert_function
from keras_lightdet.errors import ExportError

X = np.float32([[1, -2, 3]])


@pytest.fixture(scope="module")
def first():
    table = tf.constant([[1.0, 2, 0], [0, 1, 0], [0, 0, 3]])
    return convert_function(
        lambda t: {"b": tf.nn.relu(t["x"]) + 1, "a": tf.matmul(t["x"], table), "kept": -t["x"]},
        {"x": (1, 3)},
    )


@pytest.fixture(scope="module")
def second():
    return convert_function(
        lambda t: {"sum": t["a"] + 10 * t["b"], "top": tf.math.top_k(t["a"], 2).values},
        {"a": (1, 3), "b": (1, 3)},
    )


def test_the_merged_model_computes_the_second_of_the_first(first, second):
    merged = TFLiteGraph(merge_flatbuffers(first, second, keep=["kept"]))
    outputs = merged.run({"x": X})
    # By hand: a = (1, 0, 9), b = (2, 1, 4).
    np.testing.assert_allclose(outputs["sum"], [[21, 10, 49]])
    np.testing.assert_allclose(outputs["top"], [[9, 1]])
    np.testing.assert_allclose(outputs["kept"], -X)
    assert merged.output_names == ("sum", "top", "kept")


def test_merging_again(first, second):
    third = convert_function(lambda t: {"half": t["sum"] / 2}, {"sum": (1, 3)})
    outputs = TFLiteGraph(merge_flatbuffers(merge_flatbuffers(first, second), third)).run({"x": X})
    np.testing.assert_allclose(outputs["half"], [[10.5, 5, 24.5]])


def test_mismatching_flatbuffers_are_rejected(first, second):
    with pytest.raises(ExportError, match="to give"):
        merge_flatbuffers(second, first)
    wider = convert_function(lambda t: {"y": t["a"] * 2}, {"a": (1, 4)})
    with pytest.raises(ExportError, match="'a'.*shape"):
        merge_flatbuffers(first, wider)


def test_control_flow_is_rejected(first):
    loop = convert_function(
        lambda t: {"y": tf.while_loop(lambda a: tf.reduce_sum(a) < 100, lambda a: (a * 2,), (t["a"],))[0]},
        {"a": (1, 3)},
    )
    with pytest.raises(ExportError, match="subgraph"):
        merge_flatbuffers(first, loop)
