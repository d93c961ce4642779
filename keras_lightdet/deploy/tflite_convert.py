"""TensorFlow functions to .tflite flatbuffers, in one of four number formats."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.lite.python.convert import mlir_quantize
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from keras_lightdet.deploy import flatbuffer
from keras_lightdet.deploy.calibration import IMAGES, Range, Sample, set_ranges
from keras_lightdet.errors import ExportError

QUANTIZE_MODES = ("none", "float16", "dynamic", "int8")
RAW_PIXELS = (1.0, 0)  # scale and zero point of an input that takes 0..255 as it is

Tensors = dict[str, tf.Tensor]


def convert_network(
    network: Callable[[Tensors], Tensors],
    inputs: Mapping[str, tuple[int, ...]],
    *,
    quantize: str = "none",
    samples: Sequence[Sample] = (),
    limits: Mapping[str, Range] | None = None,
) -> bytes:
    """Converts a function with weights, named tensors to named tensors, into a .tflite with float32 outputs.

    The weights are frozen into the graph first: the converter leaves Keras 3 variables uninitialized on most
    of its other routes, and this one is also the quickest. The freezing loses the signature, which is put
    back.

    Args:
        network: Takes and returns dicts of float32 tensors.
        inputs: Shape of each input by name. The input "images" of the file is uint8, all others are float32.
        quantize: One of `QUANTIZE_MODES`: float32; float16 weights; int8 weights with float32 arithmetic;
            int8.
        samples: For "int8": values of the inputs that are like those to come; images are uint8.
        limits: For "int8": see `set_ranges`.

    Returns:
        The flatbuffer, whose signature has the names of inputs and outputs.

    Raises:
        ExportError: An unknown mode, int8 without samples, or an input that would not take raw pixels.
    """
    if quantize not in QUANTIZE_MODES:
        raise ExportError(f"Expected quantize to be one of {QUANTIZE_MODES}, got {quantize!r}. Do choose one.")
    if quantize == "int8":
        _check_samples(samples, inputs)
    raw_pixels = IMAGES in inputs and quantize != "int8"  # the quantizer itself makes int8's input uint8
    specs = {
        name: tf.TensorSpec(shape, tf.uint8 if raw_pixels and name == IMAGES else tf.float32, name=name)
        for name, shape in inputs.items()
    }
    concrete = tf.function(
        lambda **given: network({name: tf.cast(value, tf.float32) for name, value in given.items()}), autograph=False
    ).get_concrete_function(**specs)
    frozen = convert_variables_to_constants_v2(concrete)
    converter = _quietly(lambda: tf.lite.TFLiteConverter.from_concrete_functions([frozen]))
    if quantize in ("float16", "dynamic"):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    content = _add_signature(_quietly(converter.convert), list(inputs), sorted(concrete.structured_outputs))
    if quantize == "int8":
        content = _quietly(lambda: _quantize(set_ranges(content, samples, limits), raw_pixels=IMAGES in inputs))
        if IMAGES in inputs:
            require_raw_pixel_input(content)
    return content


def convert_float_part(
    function: Callable[[Tensors], Tensors], inputs: Mapping[str, tuple[int, ...]], *, custom_ops: bool = False
) -> bytes:
    """Converts a function without variables, named float32 tensors to named tensors, into a float32 .tflite.

    Goes through a SavedModel, because freezing inlines `experimental_implements` functions: the custom op
    would silently become its Python body.

    Args:
        function: Takes and returns dicts of tensors.
        inputs: Shape of each input by name.
        custom_ops: Whether ops unknown to TFLite may stay, as custom ops.
    """
    specs = {name: tf.TensorSpec(shape, tf.float32, name=name) for name, shape in inputs.items()}
    module = tf.Module()
    module.serve = tf.function(lambda **tensors: function(tensors), autograph=False)
    with tempfile.TemporaryDirectory() as folder:
        concrete = module.serve.get_concrete_function(**specs)
        _quietly(lambda: tf.saved_model.save(module, folder, signatures={flatbuffer.SIGNATURE: concrete}))
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.allow_custom_ops = custom_ops
        return _quietly(converter.convert)


def require_raw_pixel_input(content: bytes) -> None:
    """Checks that the quantized input takes 0..255 as it is.

    Raises:
        ExportError: Scale and zero point are others, so that raw pixels would be misread.
    """
    model = flatbuffer.unpack(content)
    graph = model.subgraphs[0]
    tensor = graph.tensors[graph.inputs[0]]
    found = (float(tensor.quantization.scale[0]), int(tensor.quantization.zeroPoint[0]))
    if tensor.type != flatbuffer.load_schema().TensorType.UINT8 or found != RAW_PIXELS:
        raise ExportError(
            f"Expected the int8 model's input to be uint8 with scale and zero point {RAW_PIXELS}, got "
            f"{found}. Do calibrate with uint8 images in 0..255 that were not normalized."
        )


def _quantize(content: bytes, *, raw_pixels: bool) -> bytes:
    """Turns a float32 flatbuffer with ranges into an int8 one."""
    input_type = tf.uint8 if raw_pixels else tf.float32
    return mlir_quantize(content, input_data_type=input_type, output_data_type=tf.float32)


def _check_samples(samples: Sequence[Sample], inputs: Mapping[str, tuple[int, ...]]) -> None:
    if not samples:
        raise ExportError(
            "Expected calibration images for quantize='int8', got none. Do pass about 100 images like "
            "those the detector will see (export/export_tflite.py: --data-dir)."
        )
    for sample in samples:
        for name, shape in inputs.items():
            value = np.asarray(sample[name])
            if value.shape != tuple(shape) or (name == IMAGES and value.dtype != np.uint8):
                raise ExportError(
                    f"Expected samples of {name!r} to have the shape {tuple(shape)}, uint8 for images, got "
                    f"{value.dtype} {value.shape}. Do resize images with keras_lightdet.images.resize_image."
                )


def _add_signature(content: bytes, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """Names the inputs, by their tensors' names, and the outputs, by their order, of a flatbuffer.

    The converter keeps the outputs' order, but makes one tensor of two that have equal weights.
    """
    model = flatbuffer.unpack(content)
    graph = model.subgraphs[0]
    tensors = {graph.tensors[int(i)].name.decode(): int(i) for i in graph.inputs}
    ends = (int(i) for i in graph.outputs)
    flatbuffer.set_signature(model, {name: tensors[name] for name in inputs}, dict(zip(outputs, ends, strict=True)))
    return flatbuffer.pack(model)


def _quietly(action: Callable):
    """Runs a converter step without its chatter; what it raises still comes through."""
    loggers = [logging.getLogger(name) for name in ("tensorflow", "absl")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            return action()
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
