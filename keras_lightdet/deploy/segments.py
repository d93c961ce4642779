"""A detector's stages as .tflite parts: converted, judged and joined one by one.

Weights and box arithmetic are converted apart, so that the decoding and the suppression of an int8 file stay float32 by
construction: in one graph the quantizer would take them too, and boxes lose their places in 8 bits.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_lightdet.deploy import convert, flatbuffer, verify
from keras_lightdet.deploy.calibration import Sample
from keras_lightdet.deploy.merge_flatbuffers import splice
from keras_lightdet.deploy.runtime import Graph
from keras_lightdet.errors import ExportError
from keras_lightdet.inference_stage import InferenceStage

COMPARED_SAMPLES = 8
_RANDOM_TRIALS, _RANDOM_SPREAD = 4, 2.0  # logits of two either way: scores from hardly any to nearly one

Outputs = dict[str, np.ndarray]


@dataclass(frozen=True)
class Part:
    """A stage and the flatbuffer it became."""

    stage: InferenceStage
    content: bytes


def convert_part(
    stage: InferenceStage, samples: Sequence[Sample], quantize: str, custom_ops: Collection[str] = ()
) -> Part:
    """Converts a stage; only one with weights is quantized.

    Args:
        stage: What to convert.
        samples: Values of its inputs, of which "int8" takes the ranges and all take the shapes.
        quantize: One of `convert.QUANTIZE_MODES`.
        custom_ops: Custom ops that a stage without weights may have.
    """
    inputs = {name: np.shape(samples[0][name]) for name in stage.inputs}
    if stage.has_weights:
        content = convert.convert_network(
            stage.function, inputs, quantize=quantize, samples=samples, limits=stage.limits
        )
    else:
        content = convert.convert_float_part(stage.function, inputs, custom_ops=bool(custom_ops))
    return Part(stage, content)


def compare_with_keras(part: Part, samples: Sequence[Sample], tolerance: verify.Tolerance) -> dict[str, float]:
    """Compares a part that has weights with its stage.

    Returns:
        Root mean square error by output, as a share of that output's standard deviation.

    Raises:
        ExportError: An output is beyond the tolerance, or not finite.
    """
    chosen = compared(samples)
    expected = [run_stage(part.stage, sample) for sample in chosen]
    graph = Graph(part.content)
    return verify.compare_raw(expected, [graph.run(sample) for sample in chosen], tolerance, part.stage.limits)


def require_same_choice(part: Part, sample: Sample, drawn: Collection[str]) -> None:
    """Compares a part without weights with its stage, on inputs drawn at random.

    Real ones will not do: flat areas of an image give equal scores, among which the cut is a matter of rounding, and
    an untrained network detects nothing.

    Args:
        part: Whose outputs are rows `[1, R, ...]`, the same of each output for one thing.
        sample: Values of its inputs.
        drawn: Of these, the ones to draw; the others are boxes, which no random numbers are.

    Raises:
        ExportError: The .tflite gives other rows than Keras.
    """
    draw, graph = np.random.default_rng(0), Graph(part.content)
    alike = total = 0
    for _ in range(_RANDOM_TRIALS):
        inputs = {name: sample[name] for name in part.stage.inputs}
        for name in drawn:
            inputs[name] = draw.normal(0, _RANDOM_SPREAD, inputs[name].shape).astype(np.float32)
        wanted, got = run_stage(part.stage, inputs), graph.run(inputs)
        alike += verify.count_same_rows(wanted, got)
        total += verify.count_rows(wanted)
    if alike < verify.MIN_AGREEMENT * total:
        raise ExportError(
            f"Expected the stage {part.stage.name!r} of the .tflite to give Keras' rows, got {alike} of {total} alike. "
            "Do check that it uses ops that TFLite computes the same way."
        )


def join(parts: Sequence[Part], outputs: Collection[str]) -> bytes:
    """Joins parts into one flatbuffer that gives `outputs`.

    Raises:
        ExportError: The parts do not fit each other.
    """
    whole = parts[0].content
    for index, part in enumerate(parts[1:], start=1):
        wanted = {name for later in parts[index + 1 :] for name in later.stage.inputs} | set(outputs)
        _, given = flatbuffer.signature_tensors(flatbuffer.unpack(whole))
        whole = splice(whole, part.content, keep=[name for name in given if name in wanted])
    return whole


def require_same_whole(parts: Sequence[Part], whole: Graph, samples: Sequence[Sample], atol: float) -> list[Outputs]:
    """Returns the outputs of the joined file, which must be those of its parts run one after the other.

    Raises:
        ExportError: They are others.
    """
    graphs, answers = [Graph(part.content) for part in parts], []
    for sample in samples:
        values = dict(sample)
        for part, graph in zip(parts, graphs, strict=True):
            values |= graph.run({name: values[name] for name in part.stage.inputs})
        answers.append(whole.run(sample))
        for name, value in answers[-1].items():
            if not np.allclose(value, values[name], rtol=0, atol=atol):
                raise ExportError(
                    f"Expected the output {name!r} of the whole .tflite to be that of its parts, got differences up "
                    f"to {np.abs(value - values[name]).max():.3g}. Do report it with the model's architecture."
                )
    return answers


def run_stage(stage: InferenceStage, sample: Sample) -> Outputs:
    """Runs a stage in Keras."""
    given = {name: tf.cast(sample[name], tf.float32) for name in stage.inputs}
    return {name: np.asarray(value) for name, value in stage.function(given).items()}


def extend(samples: Iterable[Sample], stage: InferenceStage, needed: Collection[str]) -> list[Outputs]:
    """Adds a stage's outputs to samples, and leaves out what is not `needed` any more."""
    extended = []
    for sample in samples:
        values = {**sample, **run_stage(stage, sample)}
        extended.append({name: value for name, value in values.items() if name in needed})
    return extended


def compared(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Returns the samples that parts are compared on."""
    return samples[:: max(1, len(samples) // COMPARED_SAMPLES)][:COMPARED_SAMPLES]
