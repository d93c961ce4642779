"""Measure the latency of .tflite files side by side on this machine's CPU.

    python export/benchmark_tflite.py a.tflite b.tflite --threads 1 2

The files take turns, round by round, so that what else runs slows all alike: trust the ratios more than the times.
"""

import argparse
import sys
from pathlib import Path

from keras_lightdet.deploy.benchmark import ROUNDS, measure_latency, measure_ops
from keras_lightdet.errors import LightdetError


def main(args: argparse.Namespace) -> None:
    """Prints a table of files, and one of ops for each file if asked."""
    print(f"{'threads':>7} {'median ms':>10} {'p10 ms':>8} {'ratio':>7}  file")
    for one in measure_latency(args.tflite, threads=args.threads, rounds=args.rounds):
        print(f"{one.threads:7d} {one.median:10.3f} {one.p10:8.3f} {one.ratio:7.3f}  {one.name}")
    for path in args.tflite if args.per_op else ():
        ops = measure_ops(path)
        total = sum(one.median for one in ops)
        print(f"\n{path}, each op alone, 1 thread: {total:.3f} ms\n{'ms':>9} {'share':>6} {'ops':>4}  kind")
        for one in ops:
            print(f"{one.median:9.3f} {one.median / total:6.1%} {one.calls:4d}  {one.name}")


def parse_args() -> argparse.Namespace:
    """Reads the flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tflite", type=Path, nargs="+", help="ratios are to the first")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="default: 1")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="inferences of each file (default: %(default)s)")
    parser.add_argument("--per-op", action="store_true", help="time every op alone, too")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main(parse_args())
    except LightdetError as error:
        sys.exit(f"error: {error}")
