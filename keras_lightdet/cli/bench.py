"""Measure the latency of .tflite files side by side on this machine's CPU.

    lightdet bench a.tflite b.tflite --threads 1 2

The files run in turn, round by round, so that other processes slow all of them equally: ratios are
more reliable than times.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from keras_lightdet.cli.arguments import BENCHMARK_ROUNDS, positive_int
from keras_lightdet.files import expand_user


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("tflite", type=expand_user, nargs="+", help=".tflite files; ratios are relative to the first")
    parser.add_argument(
        "--threads", type=positive_int, nargs="+", default=[1], metavar="N", help="numbers of threads (default: 1)"
    )
    parser.add_argument(
        "--rounds",
        type=positive_int,
        default=BENCHMARK_ROUNDS,
        metavar="N",
        help="inferences of each file (default: %(default)s)",
    )
    parser.add_argument("--per-op", action="store_true", help="also time every operator separately")


def run(*, tflite: Sequence[Path], threads: Sequence[int], rounds: int, per_op: bool) -> int:
    """Prints a table of the files and, with `per_op`, one of the operators of each file."""
    from keras_lightdet.deploy.benchmark import measure_latency, measure_ops

    print(f"{'threads':>7} {'median ms':>10} {'p10 ms':>8} {'ratio':>7}  file")
    for latency in measure_latency(tflite, threads=threads, rounds=rounds):
        print(f"{latency.threads:7d} {latency.median:10.3f} {latency.p10:8.3f} {latency.ratio:7.3f}  {latency.name}")
    for path in tflite if per_op else ():
        latencies = measure_ops(path)
        total = sum(latency.median for latency in latencies)
        print(f"\n{path}, each operator separately, 1 thread: {total:.3f} ms")
        print(f"{'ms':>9} {'share':>6} {'ops':>4}  kind")
        for latency in latencies:
            print(f"{latency.median:9.3f} {latency.median / total:6.1%} {latency.calls:4d}  {latency.name}")
    return 0
