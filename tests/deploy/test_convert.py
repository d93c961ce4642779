"""Names of the outputs of a converted network."""

import numpy as np
import pytest
import tensorflow as tf

from keras_lightdet.deploy.runtime import TFLiteGraph
from keras_lightdet.deploy.tflite_convert import convert_network


@pytest.mark.parametrize(("quantize", "tolerance"), [("none", 1e-6), ("int8", 0.2)])
def test_outputs_of_equal_weights_keep_their_names(quantize, tolerance):
    """The converter merges two equal tensors into one."""
    random = np.random.default_rng(0)
    first = tf.Variable(random.normal(size=(3, 4)).astype("float32"))
    second, other = tf.Variable(first), tf.Variable(-5 * first)

    def network(inputs):
        return {"b": inputs["x"] @ second, "c": inputs["x"] @ other, "a": inputs["x"] @ first}

    samples = [{"x": random.normal(size=(1, 3)).astype("float32")} for _ in range(20)]
    graph = TFLiteGraph(convert_network(network, {"x": (1, 3)}, quantize=quantize, samples=samples))
    outputs, product = graph.run(samples[0]), samples[0]["x"] @ first.numpy()
    for name, expected in {"a": product, "b": product, "c": -5 * product}.items():
        np.testing.assert_allclose(outputs[name], expected, atol=tolerance, err_msg=name)
