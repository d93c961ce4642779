"""Two flatbuffers become one whose outputs are those of the second on the first."""

import numpy as np
import pytest
import tensorflow as tf

from keras_lightdet.deploy.merge_flatbuffers import splice
from keras_lightdet.deploy.runtime import Graph
from keras_lightdet.deploy.tflite_convert import convert_float_part
from keras_lightdet.errors import ExportError

X = np.float32([[1, -2, 3]])


@pytest.fixture(scope="module")
def first():
    table = tf.constant([[1.0, 2, 0], [0, 1, 0], [0, 0, 3]])
    return convert_float_part(
        lambda t: {"b": tf.nn.relu(t["x"]) + 1, "a": tf.matmul(t["x"], table), "spare": -t["x"]},
        {"x": (1, 3)},
    )


@pytest.fixture(scope="module")
def second():
    return convert_float_part(
        lambda t: {"sum": t["a"] + 10 * t["b"], "top": tf.math.top_k(t["a"], 2).values},
        {"a": (1, 3), "b": (1, 3)},
    )


def test_the_whole_computes_the_second_of_the_first(first, second):
    whole = Graph(splice(first, second, keep=["spare"]))
    found = whole.run({"x": X})
    # By hand: a = (1, 0, 9), b = (2, 1, 4).
    np.testing.assert_allclose(found["sum"], [[21, 10, 49]])
    np.testing.assert_allclose(found["top"], [[9, 1]])
    np.testing.assert_allclose(found["spare"], -X)
    assert whole.output_names == ("sum", "top", "spare")


def test_splicing_again_on_the_whole(first, second):
    third = convert_float_part(lambda t: {"half": t["sum"] / 2}, {"sum": (1, 3)})
    found = Graph(splice(splice(first, second), third)).run({"x": X})
    np.testing.assert_allclose(found["half"], [[10.5, 5, 24.5]])


def test_parts_that_do_not_fit_are_refused(first, second):
    with pytest.raises(ExportError, match="to give"):
        splice(second, first)
    wider = convert_float_part(lambda t: {"y": t["a"] * 2}, {"a": (1, 4)})
    with pytest.raises(ExportError, match="'a'.*shape"):
        splice(first, wider)


def test_control_flow_is_refused(first):
    loop = convert_float_part(
        lambda t: {"y": tf.while_loop(lambda a: tf.reduce_sum(a) < 100, lambda a: (a * 2,), (t["a"],))[0]},
        {"a": (1, 3)},
    )
    with pytest.raises(ExportError, match="subgraph"):
        splice(first, loop)
