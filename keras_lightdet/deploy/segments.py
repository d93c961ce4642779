"""Segments of the exported graph: the inference stages of a model, converted, verified and merged one by one.

Stages with weights and stages of box arithmetic are separate for the reason in `merge_flatbuffers`.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_lightdet.deploy import flatbuffer, tflite_convert, verify
from keras_lightdet.deploy.calibration import Sample
from keras_lightdet.deploy.merge_flatbuffers import merge_flatbuffers
from keras_lightdet.deploy.runtime import Outputs, TFLiteGraph
from keras_lightdet.errors import ExportError
from keras_lightdet.inference_stage import InferenceStage

COMPARISON_SAMPLES = 8
_RANDOM_TRIALS, _RANDOM_SPREAD = 4, 2.0  # logits drawn with a spread of 2 give scores close to 0 up to close to 1


@dataclass(frozen=True)
class GraphSegment:
    """An inference stage and its flatbuffer.

    Attributes:
        stage: The stage in Keras.
        content: The flatbuffer converted from it.
    """

    stage: InferenceStage
    content: bytes


def convert_stage(
    stage: InferenceStage, samples: Sequence[Sample], quantize: str, custom_ops: Collection[str] = ()
) -> GraphSegment:
    """Converts a stage; only a stage with weights is quantized.

    Args:
        stage: The stage to convert.
        samples: Values of its inputs: "int8" calibrates on them, all modes take the shapes from them.
        quantize: One of `tflite_convert.QUANTIZE_MODES`.
        custom_ops: Custom ops that a stage without weights may have.
    """
    shapes = {name: np.shape(samples[0][name]) for name in stage.inputs}
    if stage.has_weights:
        content = tflite_convert.convert_network(
            stage.function, shapes, quantize=quantize, samples=samples, limits=stage.limits
        )
    else:
        content = tflite_convert.convert_function(stage.function, shapes, custom_ops=bool(custom_ops))
    return GraphSegment(stage, content)


def compare_with_keras(
    segment: GraphSegment, samples: Sequence[Sample], tolerance: verify.Tolerance
) -> dict[str, float]:
    """Compares a segment that has weights with its stage in Keras.

    Returns:
        Root mean square error by output, as a fraction of the output's standard deviation.

    Raises:
        ExportError: An output exceeds the tolerance or is not finite.
    """
    samples = comparison_samples(samples)
    expected = [run_in_keras(segment.stage, sample) for sample in samples]
    graph = TFLiteGraph(segment.content)
    return verify.compare_raw(expected, [graph.run(sample) for sample in samples], tolerance, segment.stage.limits)


def check_same_rows(segment: GraphSegment, sample: Sample, random_inputs: Collection[str]) -> None:
    """Compares a segment without weights with its stage in Keras, on random inputs.

    Inputs of real images do not discriminate: flat areas give equal scores, whose order at the cut depends on rounding,
    and an untrained network detects nothing.

    Args:
        segment: Its outputs are rows `[1, R, ...]`; row r of all outputs describes the same detection.
        sample: Values of its inputs.
        random_inputs: The inputs to draw at random; the others are boxes, which random numbers cannot replace.

    Raises:
        ExportError: The .tflite gives other rows than Keras.
    """
    random, graph = np.random.default_rng(0), TFLiteGraph(segment.content)
    num_same = num_rows = 0
    for _ in range(_RANDOM_TRIALS):
        inputs = {name: sample[name] for name in segment.stage.inputs}
        for name in random_inputs:
            inputs[name] = random.normal(0, _RANDOM_SPREAD, inputs[name].shape).astype(np.float32)
        expected = run_in_keras(segment.stage, inputs)
        num_same += verify.count_same_rows(expected, graph.run(inputs))
        num_rows += verify.count_rows(expected)
    if num_same < verify.MIN_AGREEMENT * num_rows:
        raise ExportError(
            f"Expected the stage {segment.stage.name!r} of the .tflite to give the rows of the Keras model, got "
            f"{num_same} of {num_rows} equal. Check that it uses only ops that TFLite computes in the same way."
        )


def merge(segments: Sequence[GraphSegment], outputs: Collection[str]) -> bytes:
    """Merges segments into one flatbuffer that gives `outputs`.

    Raises:
        ExportError: The outputs of a segment do not match the inputs of the next ones.
    """
    merged = segments[0].content
    for index, segment in enumerate(segments[1:], start=1):
        needed = {name for later in segments[index + 1 :] for name in later.stage.inputs} | set(outputs)
        _, available = flatbuffer.signature_tensors(flatbuffer.unpack(merged))
        merged = merge_flatbuffers(merged, segment.content, keep=[name for name in available if name in needed])
    return merged


def check_merged(
    segments: Sequence[GraphSegment], merged: TFLiteGraph, samples: Sequence[Sample], atol: float
) -> list[Outputs]:
    """Returns the outputs of the merged file for each sample, after comparing them with the segments run in sequence.

    Raises:
        ExportError: They differ by more than `atol`.
    """
    graphs, merged_outputs = [TFLiteGraph(segment.content) for segment in segments], []
    for sample in samples:
        values = dict(sample)
        for segment, graph in zip(segments, graphs, strict=True):
            values |= graph.run({name: values[name] for name in segment.stage.inputs})
        outputs = merged.run(sample)
        for name, value in outputs.items():
            if not np.allclose(value, values[name], rtol=0, atol=atol):
                raise ExportError(
                    f"Expected the output {name!r} of the merged .tflite to equal that of its segments, got "
                    f"differences up to {np.abs(value - values[name]).max():.3g}. Report this with the architecture."
                )
        merged_outputs.append(outputs)
    return merged_outputs


def run_in_keras(stage: InferenceStage, sample: Sample) -> Outputs:
    """Runs a stage in Keras."""
    inputs = {name: tf.cast(sample[name], tf.float32) for name in stage.inputs}
    return {name: np.asarray(value) for name, value in stage.function(inputs).items()}


def run_and_append(samples: Iterable[Sample], stage: InferenceStage, needed: Collection[str]) -> list[Outputs]:
    """Runs a stage in Keras on samples and appends its outputs to them; keeps only the names in `needed`."""
    extended = []
    for sample in samples:
        values = {**sample, **run_in_keras(stage, sample)}
        extended.append({name: value for name, value in values.items() if name in needed})
    return extended


def comparison_samples(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Returns up to `COMPARISON_SAMPLES` samples, evenly spaced, on which Keras and the file are compared."""
    return samples[:: max(1, len(samples) // COMPARISON_SAMPLES)][:COMPARISON_SAMPLES]
