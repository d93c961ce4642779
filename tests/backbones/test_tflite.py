"""The backbones as .tflite files: built-in ops, one piece for the CPU delegate, Keras' answers."""

import keras
import numpy as np
import pytest
from tflite_ops import quantized_ops

from keras_lightdet.backbones import (
    EfficientNet,
    MobileNetV2,
    MobileSpineNet,
    ResNet,
    ShuffleNetV2,
    SNet,
    SpineNet,
    XceptionLight,
)
from keras_lightdet.deploy import flatbuffer
from keras_lightdet.deploy.runtime import TFLiteGraph
from keras_lightdet.deploy.tflite_convert import convert_network
from keras_lightdet.deploy.verify import (
    TOLERANCES,
    check_allowed_ops,
    compare_raw,
    count_partitions,
    list_ops,
)

SIZE = (64, 96)
INPUTS = {"images": (1, *SIZE, 3)}
slow = pytest.mark.slow
NETS = [
    pytest.param(ShuffleNetV2, {"width": 0.5}, id="shufflenet_v2", marks=slow),
    pytest.param(ShuffleNetV2, {"width": 0.5, "unit": "keep", "extra_depthwise": True}, id="star", marks=slow),
    pytest.param(SNet, {"variant": "snet49", "unit": "keep"}, id="snet49"),
    pytest.param(SNet, {"variant": "snet535"}, id="snet535", marks=slow),
    pytest.param(ResNet, {"depth": 18}, id="resnet18"),
    pytest.param(ResNet, {"depth": 50, "dilate_last": True}, id="resnet50", marks=slow),
    pytest.param(XceptionLight, {}, id="xception_light"),
    pytest.param(MobileNetV2, {"width": 0.5}, id="mobilenet_v2"),
    pytest.param(MobileNetV2, {"width": 0.5, "convention": "torch"}, id="mobilenet_v2_torch", marks=slow),
    pytest.param(EfficientNet, {"convention": "torch"}, id="efficientnet_torch", marks=slow),
    pytest.param(MobileSpineNet, {"variant": "49xs"}, id="mobile_spinenet", marks=slow),
    pytest.param(SpineNet, {"variant": "49s"}, id="spinenet", marks=slow),
]


def draw_images(count):
    return [np.random.default_rng(seed).integers(0, 256, (*SIZE, 3)).astype("uint8") for seed in range(count)]


def build_with_logits(build, options):
    """Returns a model of the features and the logits."""
    keras.utils.set_random_seed(0)
    classifier = build(num_classes=7, **options)
    ends = build(**options).output
    outputs = {level: classifier.get_layer(x._keras_history.operation.name).output for level, x in ends.items()}
    return keras.Model(classifier.input, {**outputs, "logits": classifier.output})


def answers(model, content, images):
    graph = TFLiteGraph(content)
    expected = [{key: np.array(x) for key, x in model(p[None].astype("float32")).items()} for p in images]
    return expected, [graph.run({"images": image[None]}) for image in images]


@pytest.mark.parametrize(("build", "options"), NETS)
def test_float_file_equals_keras(build, options):
    model = build_with_logits(build, options)
    content = convert_network(lambda given: model(given["images"]), INPUTS)
    check_allowed_ops(content)
    assert count_partitions(content) == 1
    graph = flatbuffer.unpack(content).subgraphs[0]
    assert max(len(tensor.shape) for tensor in graph.tensors if tensor.shape is not None) == 4
    for expected, actual in zip(*answers(model, content, draw_images(2)), strict=True):
        assert set(expected) == set(actual)
        for key, values in expected.items():
            np.testing.assert_allclose(actual[key], values, rtol=0, atol=1e-5 * np.abs(values).max(), err_msg=key)


# XNNPACK leaves an int8 average pooling to the runtime, which parts the Xception-like net at its three units of
# stride 2.
@pytest.mark.parametrize(
    ("build", "options", "partitions"),
    [
        pytest.param(SNet, {"variant": "snet49"}, 1, id="snet49"),
        pytest.param(XceptionLight, {}, 7, id="xception_light", marks=slow),
    ],
)
def test_int8_file_is_int8_throughout(build, options, partitions):
    model, images = build_with_logits(build, options), draw_images(8)
    content = convert_network(
        lambda given: model(given["images"]),
        INPUTS,
        quantize="int8",
        samples=[{"images": image[None]} for image in images],
    )
    assert quantized_ops(content) == set(list_ops(content))
    assert count_partitions(content) == partitions
    compare_raw(*answers(model, content, images[:2]), TOLERANCES["int8"])
