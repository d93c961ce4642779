"""The ranges of int8 tensors against brute force and against the converter's own calibration."""

import numpy as np
import pytest
import tensorflow as tf

from keras_lightdet.deploy import flatbuffer
from keras_lightdet.deploy.calibration import Histogram, best_range
from keras_lightdet.deploy.runtime import TFLiteGraph
from keras_lightdet.deploy.tflite_convert import convert_network
from keras_lightdet.errors import ExportError

SIDE = 16


def histogram_of(values):
    histogram = Histogram(min(0.0, float(values.min())), max(0.0, float(values.max())))
    for chunk in np.array_split(values, 3):
        histogram.add(chunk)
    return histogram


def error_of(values, low, high):
    """Mean squared error of values in 8 bits, quantized one by one as TFLite does."""
    scale = (high - low) / 255
    zero = np.round(-low / scale)
    quantized = np.clip(np.round(values / scale) + zero, 0, 255)
    return np.mean(np.square((quantized - zero) * scale - values))


def draws():
    random = np.random.default_rng(0)
    normal = random.normal(0, 1, 20_000)
    return {
        "normal": normal,
        "shifted": normal - 1.5,
        "outliers": np.append(normal, [400.0, -90.0]),
        "leaky": np.where(normal > 0, 3 * normal, 0.1 * normal),
        "relu": np.maximum(normal - 1, 0),
        "uniform": random.uniform(-2, 6, 20_000),
    }


@pytest.mark.parametrize("name", draws())
def test_no_range_of_a_brute_force_search_is_better(name):
    values = draws()[name]
    low, high = best_range(histogram_of(values))
    assert low <= 0 <= high
    fractions = np.linspace(0, 1, 41)[1:]
    tried = [error_of(values, values.min() * a, values.max() * b) for a in fractions for b in fractions]
    if values.min() == 0:
        assert low == 0
    assert error_of(values, low, high) <= 1.03 * min(tried)


def test_outliers_are_clipped_and_uniform_values_are_not():
    histogram = histogram_of(draws()["outliers"])
    assert best_range(histogram)[1] == pytest.approx(400, rel=0.05)  # one in 20,000 is kept
    histogram.counts *= 1 + 5000 * (histogram.counts > 1)
    low, high = best_range(histogram)
    assert -10 < low < -2 and 2 < high < 14  # one in a hundred million is not; candidates are 400 / 128 apart
    assert best_range(histogram_of(draws()["uniform"])) == pytest.approx((-2, 6), rel=0.02)


def test_no_range_reaches_beyond_its_limit():
    values = np.append(np.random.default_rng(0).normal(0, 3, 5000), np.full(5000, -200.0))
    assert best_range(histogram_of(values))[0] == pytest.approx(-200, rel=0.02)
    low, high = best_range(histogram_of(values), limit=(-8.0, 8.0))
    assert low == pytest.approx(-8, rel=0.02) and 4 < high <= 8


def test_a_tensor_of_zeros_has_a_range():
    low, high = best_range(Histogram(0.0, 0.0))
    assert low < high


def heavy_tails(inputs):
    """A convolution whose values are cubed: most are small, few are large."""
    kernel = tf.constant(np.random.default_rng(0).normal(0, 1, (3, 3, 3, 8)), tf.float32)
    return {"cubed": tf.nn.conv2d(inputs["images"] / 128 - 1, kernel, 1, "SAME") ** 3}


def test_heavy_tails_lose_less_than_with_the_converters_own_calibration():
    random = np.random.default_rng(1)
    images = [random.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8) for _ in range(40)]
    samples = [{"images": image[None]} for image in images[:20]]
    inputs = {"images": (1, SIDE, SIDE, 3)}
    graph = TFLiteGraph(convert_network(heavy_tails, inputs, quantize="int8", samples=samples))
    reference, own, theirs = converters_own(heavy_tails, images[:20]), 0.0, 0.0
    for image in images[20:]:
        expected = heavy_tails({"images": tf.cast(image[None], tf.float32)})["cubed"].numpy()
        own += np.square(graph.run({"images": image[None]})["cubed"] - expected).mean()
        theirs += np.square(reference(image) - expected).mean()
    assert own < 0.9 * theirs, own / theirs


def converters_own(network, images):
    """The int8 file of TensorFlow's converter with its own calibration, as a function of an image."""
    spec = tf.TensorSpec((1, SIDE, SIDE, 3), tf.float32)
    function = tf.function(lambda images: network({"images": images})["cubed"], autograph=False)
    concrete = function.get_concrete_function(spec)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None].astype(np.float32)] for image in images)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    interpreter.allocate_tensors()
    (entry,), (end,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(image):
        interpreter.set_tensor(entry["index"], image[None].astype(np.float32))
        interpreter.invoke()
        return interpreter.get_tensor(end["index"])

    return run


def test_every_computed_tensor_of_an_int8_file_has_a_scale(exported):
    model = flatbuffer.unpack(flatbuffer.read_content(exported("int8", "none")[0]))
    int8 = flatbuffer.load_schema().TensorType.INT8
    scales = [tensor.quantization.scale for tensor in model.subgraphs[0].tensors if tensor.type == int8]
    assert len(scales) > 40 and all(len(scale) and np.all(np.asarray(scale) > 0) for scale in scales)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_non_finite_numbers_are_rejected(bad):
    samples = [{"images": np.zeros((1, SIDE, SIDE, 3), np.uint8)}]
    with pytest.raises(ExportError, match="finite"):
        convert_network(
            lambda inputs: {"out": inputs["images"] * 0.5 + bad},
            {"images": (1, SIDE, SIDE, 3)},
            quantize="int8",
            samples=samples,
        )
