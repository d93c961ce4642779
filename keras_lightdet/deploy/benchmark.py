"""Measures the latency of .tflite files side by side."""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_lightdet.deploy import flatbuffer
from keras_lightdet.deploy.runtime import make_interpreter
from keras_lightdet.files import StrPath

ROUNDS, WARM_UP_ROUNDS = 100, 5


@dataclass(frozen=True)
class Latency:
    """Latency of one inference, in milliseconds.

    Attributes:
        name: The file, or the kind of operator.
        threads: Threads of the interpreter.
        median: Median over rounds.
        p10: 10th percentile over rounds: least affected by other processes.
        ratio: Median over rounds of this file's time divided by the first file's time in the same round.
        calls: Operators of this kind in the file; 1 for a whole file.
    """

    name: str
    threads: int
    median: float
    p10: float
    ratio: float = 1.0
    calls: int = 1


def measure_latency(
    paths: Sequence[StrPath], *, threads: Sequence[int] = (1,), rounds: int = ROUNDS, seed: int = 0
) -> list[Latency]:
    """Times files in turn, round by round, so that other processes slow all of them equally.

    Args:
        paths: The files; ratios are relative to the first.
        threads: Numbers of threads, measured one after the other.
        rounds: Inferences of each file, after a few warm-up rounds.
        seed: Seed of the random input.

    Returns:
        One entry for each number of threads and file.

    Raises:
        ExportError: A file cannot be loaded.
    """
    contents = [flatbuffer.read_content(path) for path in paths]
    latencies = []
    for count in threads:
        runs = [
            _make_run(content, count, seed, name=repr(str(path))) for path, content in zip(paths, contents, strict=True)
        ]
        times = _time_in_turn(runs, rounds)
        for path, file_times in zip(paths, times, strict=True):
            ratio = float(np.median(file_times / times[0]))
            latencies.append(Latency(str(path), count, *_summary(file_times), ratio=ratio))
    return latencies


def measure_ops(path: StrPath, *, rounds: int = 20) -> list[Latency]:
    """Times every operator of a file separately on one thread, and sums the times by kind.

    The total exceeds the latency of the file, because the delegate cannot fuse operators; use the proportions.

    Returns:
        One entry for each kind of operator, slowest first.
    """
    model = flatbuffer.unpack(flatbuffer.read_content(path), repr(str(path)))
    by_kind: dict[str, list[np.ndarray]] = {}
    for operator in model.subgraphs[0].operators:
        run = _make_run(_extract_operator(model, operator), threads=1, seed=0)
        kind = flatbuffer.op_name(model.operatorCodes[operator.opcodeIndex])
        by_kind.setdefault(kind, []).append(_time_in_turn([run], rounds)[0])
    totals = [Latency(kind, 1, *_summary(np.sum(times, axis=0)), calls=len(times)) for kind, times in by_kind.items()]
    return sorted(totals, key=lambda total: -total.median)


def _extract_operator(model: flatbuffer.Model, operator: Any) -> bytes:
    """Returns a flatbuffer of one operator; its inputs are the tensors that are not constants."""
    schema = flatbuffer.load_schema()
    source, operator = model.subgraphs[0], copy.copy(operator)
    used = list(dict.fromkeys(int(i) for i in [*operator.inputs, *operator.outputs] if int(i) >= 0))
    tensors, buffers = [], [schema.BufferT()]
    for index in used:
        tensor = copy.copy(source.tensors[index])
        buffer = model.buffers[tensor.buffer]
        tensor.buffer = 0
        if buffer.data is not None and len(buffer.data):
            tensor.buffer = len(buffers)
            buffers.append(buffer)
        tensors.append(tensor)
    new_indices = {-1: -1, **{index: new_index for new_index, index in enumerate(used)}}
    operator.inputs = [new_indices[int(i)] for i in operator.inputs]
    operator.outputs = [new_indices[int(i)] for i in operator.outputs]
    operator.intermediates = []
    code = model.operatorCodes[operator.opcodeIndex]
    operator.opcodeIndex = 0
    inputs = [i for i in dict.fromkeys(operator.inputs) if i >= 0 and not tensors[i].buffer]
    subgraph = schema.SubGraphT(
        tensors=tensors, inputs=inputs, outputs=operator.outputs, operators=[operator], name="op"
    )
    return flatbuffer.pack(
        schema.ModelT(version=model.version, operatorCodes=[code], subgraphs=[subgraph], buffers=buffers)
    )


def _make_run(content: bytes, threads: int, seed: int, *, name: str = "a single operator") -> Callable[[], None]:
    interpreter = make_interpreter(content, num_threads=threads, name=name)
    random = np.random.default_rng(seed)
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], _random_tensor(random, detail["shape"], np.dtype(detail["dtype"])))
    return interpreter.invoke


def _random_tensor(random: np.random.Generator, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    if dtype.kind in "ui":
        # Indices of GATHER are int32: zero is valid for every table.
        low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype.itemsize == 1 else (0, 0)
        return random.integers(low, high, shape, dtype, endpoint=True)
    return random.random(shape).astype(dtype)


def _time_in_turn(runs: Sequence[Callable[[], None]], rounds: int) -> np.ndarray:
    """Returns milliseconds `[runs, rounds]`."""
    times = np.empty((len(runs), rounds))
    for index in range(-WARM_UP_ROUNDS, rounds):
        for row, run in enumerate(runs):
            start = time.perf_counter()
            run()
            if index >= 0:
                times[row, index] = 1000 * (time.perf_counter() - start)
    return times


def _summary(times: np.ndarray) -> tuple[float, float]:
    return float(np.median(times)), float(np.percentile(times, 10))
