"""Converts TensorFlow functions to .tflite flatbuffers in one of four number formats."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import tensorflow as tf
from tensorflow.lite.python.convert import mlir_quantize
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from keras_lightdet.deploy import flatbuffer
from keras_lightdet.deploy.calibration import IMAGES, Range, Sample, set_ranges
from keras_lightdet.errors import ExportError
from keras_lightdet.types import Tensor, Tensors

QUANTIZE_MODES = ("none", "float16", "dynamic", "int8")
RAW_PIXELS = (1.0, 0)  # scale and zero point of an input that takes 0..255 unchanged

Shapes = Mapping[str, tuple[int, ...]]
Result = TypeVar("Result")


def convert_network(
    network: Callable[[Tensors], Tensors],
    inputs: Shapes,
    *,
    quantize: str = "none",
    samples: Sequence[Sample] = (),
    limits: Mapping[str, Range] | None = None,
) -> bytes:
    """Converts a function with weights, named tensors to named tensors, to a .tflite with float32 outputs.

    The weights are frozen into the graph first: the converter leaves Keras 3 variables uninitialized on most other
    routes. Freezing loses the signature, which is added again.

    Args:
        network: Takes and returns dicts of float32 tensors.
        inputs: Shape of each input by name. The input "images" of the file is uint8, all others are float32.
        quantize: One of `QUANTIZE_MODES`: float32; float16 weights; int8 weights with float32 arithmetic; int8.
        samples: For "int8": representative values of the inputs; images are uint8.
        limits: For "int8": see `set_ranges`.

    Returns:
        The flatbuffer, whose signature has the names of inputs and outputs.

    Raises:
        ExportError: An unknown mode, int8 without samples, or an input that would not take raw pixels.
    """
    if quantize not in QUANTIZE_MODES:
        raise ExportError(f"Expected quantize to be one of {QUANTIZE_MODES}, got {quantize!r}. Choose one of them.")
    if quantize == "int8":
        _check_samples(samples, inputs)
    raw_pixels = IMAGES in inputs and quantize != "int8"  # the quantizer itself makes int8's input uint8
    specs = {
        name: tf.TensorSpec(shape, tf.uint8 if raw_pixels and name == IMAGES else tf.float32, name=name)
        for name, shape in inputs.items()
    }

    def run_as_float32(**tensors: Tensor) -> Tensors:
        return network({name: tf.cast(value, tf.float32) for name, value in tensors.items()})

    concrete = tf.function(run_as_float32, autograph=False).get_concrete_function(**specs)
    frozen = convert_variables_to_constants_v2(concrete)
    converter = _run_quietly(lambda: tf.lite.TFLiteConverter.from_concrete_functions([frozen]))
    if quantize in ("float16", "dynamic"):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    content = _add_signature(_run_quietly(converter.convert), list(inputs), sorted(concrete.structured_outputs))
    if quantize == "int8":
        ranged, input_type = set_ranges(content, samples, limits), tf.uint8 if IMAGES in inputs else tf.float32
        content = _run_quietly(lambda: mlir_quantize(ranged, input_data_type=input_type, output_data_type=tf.float32))
        if IMAGES in inputs:
            check_raw_pixel_input(content)
    return content


def convert_function(function: Callable[[Tensors], Tensors], inputs: Shapes, *, custom_ops: bool = False) -> bytes:
    """Converts a function without weights, named float32 tensors to named tensors, to a float32 .tflite.

    Converts through a SavedModel: freezing would inline functions with `experimental_implements`, so that a custom op
    would be replaced by its Python body.

    Args:
        function: Takes and returns dicts of tensors.
        inputs: Shape of each input by name.
        custom_ops: Whether ops unknown to TFLite are kept as custom ops.
    """
    specs = {name: tf.TensorSpec(shape, tf.float32, name=name) for name, shape in inputs.items()}
    module = tf.Module()
    module.serve = tf.function(lambda **tensors: function(tensors), autograph=False)
    with tempfile.TemporaryDirectory() as folder:
        concrete = module.serve.get_concrete_function(**specs)
        _run_quietly(lambda: tf.saved_model.save(module, folder, signatures={flatbuffer.SIGNATURE: concrete}))
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.allow_custom_ops = custom_ops
        return _run_quietly(converter.convert)


def check_raw_pixel_input(content: bytes) -> None:
    """Checks that the quantized input takes 0..255 unchanged.

    Raises:
        ExportError: The input has another scale or zero point, and would misread raw pixels.
    """
    model = flatbuffer.unpack(content)
    subgraph = model.subgraphs[0]
    tensor = subgraph.tensors[subgraph.inputs[0]]
    scale_and_zero = (float(tensor.quantization.scale[0]), int(tensor.quantization.zeroPoint[0]))
    if tensor.type != flatbuffer.load_schema().TensorType.UINT8 or scale_and_zero != RAW_PIXELS:
        raise ExportError(
            f"Expected the int8 model's input to be uint8 with scale and zero point {RAW_PIXELS}, got "
            f"{scale_and_zero}. Calibrate with uint8 images in 0..255 that were not normalized."
        )


def _check_samples(samples: Sequence[Sample], inputs: Shapes) -> None:
    if not samples:
        raise ExportError(
            "Expected calibration images for quantize='int8', got none. Pass about 100 images like those the model "
            "will see (`lightdet export --data-dir`)."
        )
    for sample in samples:
        for name, shape in inputs.items():
            value = np.asarray(sample[name])
            if value.shape != tuple(shape) or (name == IMAGES and value.dtype != np.uint8):
                raise ExportError(
                    f"Expected samples of {name!r} to have the shape {tuple(shape)}, uint8 for images, got "
                    f"{value.dtype} {value.shape}. Resize images with keras_lightdet.images.resize_image."
                )


def _add_signature(content: bytes, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """Names the inputs by their tensors' names, and the outputs by their order.

    The converter keeps the order of the outputs, but merges the tensors of two outputs that have equal weights.
    """
    model = flatbuffer.unpack(content)
    subgraph = model.subgraphs[0]
    indices = {subgraph.tensors[int(i)].name.decode(): int(i) for i in subgraph.inputs}
    output_indices = dict(zip(outputs, (int(i) for i in subgraph.outputs), strict=True))
    flatbuffer.set_signature(model, {name: indices[name] for name in inputs}, output_indices)
    return flatbuffer.pack(model)


def _run_quietly(action: Callable[[], Result]) -> Result:
    """Runs a step of the converter without its log messages; exceptions pass through."""
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
