"""The content of an exported file, and the checks that keep an invalid one from being written."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from tflite_ops import quantized_ops

from keras_lightdet.deploy import export_detection, flatbuffer, read_labels, verify
from keras_lightdet.deploy.postprocess import CUSTOM_OP, OUTPUTS, detection_postprocess
from keras_lightdet.deploy.runtime import TFLiteGraph
from keras_lightdet.deploy.tflite_convert import check_raw_pixel_input, convert_function, convert_network
from keras_lightdet.errors import ExportError

FLOAT_OPS = {"NON_MAX_SUPPRESSION_V4", "TOPK_V2", "EXP", "GATHER", "SPLIT", "MINIMUM", "SUB", CUSTOM_OP}


def input_of(path):
    model = flatbuffer.unpack(flatbuffer.read_content(path))
    graph = model.subgraphs[0]
    return graph.tensors[int(graph.inputs[0])]


@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_input_takes_raw_uint8_pixels(exported, quantize):
    tensor = input_of(exported(quantize)[0])
    assert tensor.type == flatbuffer.load_schema().TensorType.UINT8
    assert list(tensor.shape) == [1, 64, 64, 3]
    if quantize == "int8":
        assert tensor.quantization.scale[0] == 1.0
        assert tensor.quantization.zeroPoint[0] == 0


@pytest.mark.parametrize("form", ["builtin", "custom_op"])
def test_box_arithmetic_stays_float_in_an_int8_file(exported, form):
    content = flatbuffer.read_content(exported("int8", form)[0])
    assert FLOAT_OPS & set(verify.list_ops(content)), "the float ops must be in the file"
    assert {"CONV_2D", "DEPTHWISE_CONV_2D"} <= quantized_ops(content)
    assert not FLOAT_OPS & quantized_ops(content)


def test_every_convolution_of_an_int8_file_is_int8(exported):
    model = flatbuffer.unpack(flatbuffer.read_content(exported("int8")[0]))
    graph, int8 = model.subgraphs[0], flatbuffer.load_schema().TensorType.INT8
    names = [flatbuffer.op_name(code) for code in model.operatorCodes]
    outputs = [graph.tensors[op.outputs[0]].type for op in graph.operators if "CONV_2D" in names[op.opcodeIndex]]
    assert len(outputs) > 20
    assert set(outputs) == {int8}


def test_signature_labels_and_size(exported, model):
    path, report = exported("int8")
    inputs, outputs = flatbuffer.signature_tensors(flatbuffer.unpack(flatbuffer.read_content(path)))
    assert list(inputs) == ["images"]
    assert set(outputs) == {"boxes", "labels", "scores", "count"}
    assert read_labels(path) == model.class_names
    assert report.num_bytes == path.stat().st_size
    assert report.num_detections > 0
    assert set(report.raw_errors) == {"box_deltas", "objectness", "class_logits"}


def test_dark_images_do_not_change_the_input_scale():
    def network(inputs):
        return {"out": tf.reduce_mean(inputs["images"], axis=(1, 2)) / 255}

    dim = np.random.default_rng(0).integers(20, 60, (8, 8, 3)).astype(np.uint8)
    samples = [{"images": dim[None]}] * 2
    check_raw_pixel_input(convert_network(network, {"images": (1, 8, 8, 3)}, quantize="int8", samples=samples))


def test_another_input_scale_is_rejected(exported):
    model = flatbuffer.unpack(flatbuffer.read_content(exported("int8")[0]))
    graph = model.subgraphs[0]
    graph.tensors[int(graph.inputs[0])].quantization.scale = [0.878]
    with pytest.raises(ExportError, match=r"scale.*0\.878"):
        check_raw_pixel_input(flatbuffer.pack(model))


def test_unfrozen_variables_are_rejected():
    plain = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3)])
    concrete = tf.function(lambda x: plain(x)).get_concrete_function(tf.TensorSpec((1, 8, 8, 3)))
    content = tf.lite.TFLiteConverter.from_concrete_functions([concrete], plain).convert()
    with pytest.raises(ExportError, match="VAR_HANDLE"):
        verify.check_allowed_ops(content)


def test_inlined_custom_op_is_detected(model):
    post = detection_postprocess(model.select)
    anchors = tf.constant([[0.0, 0.0, 1.0, 1.0]] * 4)
    concrete = tf.function(lambda e, s: post(e, s, anchors)).get_concrete_function(
        tf.TensorSpec((1, 4, 4)), tf.TensorSpec((1, 4, 1))
    )
    content = tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert()  # inlines the body
    unsupported = set(verify.list_ops(content)) - verify.ALLOWED_OPS
    with pytest.raises(ExportError, match="(?s)custom ops|built-in"):
        verify.check_allowed_ops(content, custom_ops=[CUSTOM_OP, *unsupported])


def test_unexpected_custom_op_is_rejected(exported):
    content = flatbuffer.read_content(exported("int8", "custom_op")[0])
    assert verify.check_allowed_ops(content, custom_ops=[CUSTOM_OP])[CUSTOM_OP] == 1
    with pytest.raises(ExportError, match=CUSTOM_OP):
        verify.check_allowed_ops(content)


def test_the_body_in_tensorflow_computes_the_same_as_the_op(model):
    select = dataclasses.replace(model.select, score_threshold=0.3, iou_threshold=0.5, max_detections=4)
    # Two boxes of IoU 0.8, one apart and one below the threshold, as (center y, center x, log height, log width).
    boxes = np.array([[0.2, 0.2, 0.2, 0.2], [0.2, 0.2, 0.2, 0.16], [0.7, 0.7, 0.1, 0.1], [0.5, 0.5, 0.1, 0.1]])
    encodings = np.concatenate([boxes[:, :2], np.log(boxes[:, 2:])], axis=-1)[None].astype(np.float32)
    inputs = {"e": encodings, "s": np.float32([[[0.8], [0.9], [0.4], [0.2]]])}
    post, anchors = detection_postprocess(select), np.float32([[0, 0, 1, 1]] * 4)

    def run(tensors):
        return dict(zip(OUTPUTS, post(tensors["e"], tensors["s"], anchors), strict=True))

    graph = TFLiteGraph(convert_function(run, {"e": (1, 4, 4), "s": (1, 4, 1)}, custom_ops=True))
    for outputs in (run(inputs), graph.run(inputs)):
        assert np.array(outputs["count"]).tolist() == [2]
        np.testing.assert_array_equal(outputs["scores"][0, :2], np.float32([0.9, 0.4]))
        expected = [[0.1, 0.12, 0.3, 0.28], [0.65, 0.65, 0.75, 0.75]]
        np.testing.assert_allclose(outputs["boxes"][0, :2], expected, atol=1e-6)


class Drifting:
    """A detector whose second and later outputs are wrong, as if the file's weights were lost."""

    def __init__(self, model):
        self._model, self._calls = model, 0

    def __getattr__(self, name):
        return getattr(self._model, name)

    def __call__(self, images, training):
        return self._model(images, training=training)

    def inference_stages(self):
        (stage,) = self._model.inference_stages()

        def drift(inputs):
            self._calls += 1
            raw = stage.function(inputs)
            return raw if self._calls == 1 else {**raw, "objectness": -raw["objectness"]}

        return [dataclasses.replace(stage, function=drift)]


def test_a_failed_comparison_keeps_the_old_file(model, images, tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"the old file")
    with pytest.raises(ExportError, match="objectness"):
        export_detection(Drifting(model), path, postprocess="none", calibration=images[:2])
    assert path.read_bytes() == b"the old file"
    assert [p.name for p in tmp_path.iterdir()] == ["m.tflite"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"quantize": "int4"}, "int4"), ({"postprocess": "soft"}, "soft"), ({"calibration": []}, "images")],
)
def test_wrong_arguments_are_named(model, images, tmp_path, arguments, message):
    with pytest.raises(ExportError, match=message):
        export_detection(model, tmp_path / "m.tflite", **{"calibration": images, **arguments})


def test_raw_outputs_beyond_the_tolerance_are_rejected():
    random = np.random.default_rng(0)
    good = [{"a": random.normal(-5, 1, (1, 30, 4))} for _ in range(3)]
    near = [{"a": raw["a"] + 0.02 * random.normal(size=raw["a"].shape)} for raw in good]
    errors = verify.compare_raw(good, near, verify.TOLERANCES["int8"])
    assert errors["a"] == pytest.approx(0.02, rel=0.2)
    with pytest.raises(ExportError, match="'a'"):
        verify.compare_raw(good, near, verify.TOLERANCES["none"])
    constant = [{"a": np.full((1, 30, 4), -5.0)} for _ in range(3)]  # correct on average, independent of the image
    with pytest.raises(ExportError, match="'a'"):
        verify.compare_raw(good, constant, verify.TOLERANCES["int8"])
    broken = [{"a": np.full((1, 30, 4), np.nan)} for _ in range(3)]
    with pytest.raises(ExportError, match="'a'"):
        verify.compare_raw(good, broken, verify.TOLERANCES["int8"])
