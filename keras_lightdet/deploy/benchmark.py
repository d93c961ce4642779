"""Latency of .tflite files, measured side by side."""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_lightdet.deploy import flatbuffer
from keras_lightdet.deploy.runtime import make_interpreter

ROUNDS, WARM_UP_ROUNDS = 100, 5


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one inference.

    Attributes:
        name: The file, or the op.
        threads: Threads of the interpreter.
        median: Middle of all rounds.
        p10: One round in ten is at least this quick: what remains when others use the machine.
        ratio: Median over rounds of this file's time by the first file's in the same round.
        calls: Ops of this kind in the file; 1 for a whole file.
    """

    name: str
    threads: int
    median: float
    p10: float
    ratio: float = 1.0
    calls: int = 1


def measure_latency(
    paths: Sequence[str | Path], *, threads: Sequence[int] = (1,), rounds: int = ROUNDS, seed: int = 0
) -> list[Latency]:
    """Times files in turn, round by round, so that what else runs on the machine slows all alike.

    Args:
        paths: The files; ratios are to the first.
        threads: Each number of threads is measured by itself.
        rounds: Inferences of each file, after a few that do not count.
        seed: Of the random input.

    Returns:
        One entry for each number of threads and file.

    Raises:
        ExportError: A file cannot be loaded.
    """
    contents = [flatbuffer.read_content(path) for path in paths]
    found = []
    for count in threads:
        runs = [
            _make_run(content, count, seed, name=repr(str(path))) for path, content in zip(paths, contents, strict=True)
        ]
        times = _time_in_turn(runs, rounds)
        for path, own in zip(paths, times, strict=True):
            found.append(Latency(str(path), count, *_summary(own), ratio=float(np.median(own / times[0]))))
    return found


def measure_ops(path: str | Path, *, threads: int = 1, rounds: int = 20, seed: int = 0) -> list[Latency]:
    """Times every op of a file alone, each cut out into a file of its own, and adds them up by kind.

    What the runtime gains by handing whole stretches to its delegate is lost so; the shares are what counts.

    Returns:
        One entry for each kind of op, slowest first.
    """
    model = flatbuffer.unpack(flatbuffer.read_content(path), repr(str(path)))
    by_kind: dict[str, list[np.ndarray]] = {}
    for operator in model.subgraphs[0].operators:
        run = _make_run(_cut_out(model, operator), threads, seed)
        kind = flatbuffer.op_name(model.operatorCodes[operator.opcodeIndex])
        by_kind.setdefault(kind, []).append(_time_in_turn([run], rounds)[0])
    totals = [
        Latency(kind, threads, *_summary(np.sum(times, axis=0)), calls=len(times)) for kind, times in by_kind.items()
    ]
    return sorted(totals, key=lambda total: -total.median)


def _cut_out(model, operator) -> bytes:
    """Returns a flatbuffer of one op, whose inputs are the tensors that are no constants."""
    schema = flatbuffer.load_schema()
    graph, operator = model.subgraphs[0], copy.copy(operator)
    used = list(dict.fromkeys(int(i) for i in [*operator.inputs, *operator.outputs] if int(i) >= 0))
    tensors, buffers = [], [schema.BufferT()]
    for index in used:
        tensor = copy.copy(graph.tensors[index])
        data = model.buffers[tensor.buffer]
        tensor.buffer = 0
        if data.data is not None and len(data.data):
            tensor.buffer = len(buffers)
            buffers.append(data)
        tensors.append(tensor)
    place = {-1: -1, **{index: k for k, index in enumerate(used)}}
    operator.inputs = [place[int(i)] for i in operator.inputs]
    operator.outputs = [place[int(i)] for i in operator.outputs]
    operator.intermediates = []
    code = model.operatorCodes[operator.opcodeIndex]
    operator.opcodeIndex = 0
    fed = [k for k in dict.fromkeys(operator.inputs) if k >= 0 and not tensors[k].buffer]
    subgraph = schema.SubGraphT(tensors=tensors, inputs=fed, outputs=operator.outputs, operators=[operator], name="op")
    return flatbuffer.pack(
        schema.ModelT(version=model.version, operatorCodes=[code], subgraphs=[subgraph], buffers=buffers)
    )


def _make_run(content: bytes, threads: int, seed: int, *, name: str = "an op cut out") -> Callable[[], None]:
    interpreter = make_interpreter(content, num_threads=threads, name=name)
    draw = np.random.default_rng(seed)
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], _random(draw, detail["shape"], np.dtype(detail["dtype"])))
    return interpreter.invoke


def _random(draw: np.random.Generator, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    if dtype.kind in "ui":
        # Indices of GATHER are int32: zero lies in every table.
        low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype.itemsize == 1 else (0, 0)
        return draw.integers(low, high, shape, dtype, endpoint=True)
    return draw.random(shape).astype(dtype)


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
