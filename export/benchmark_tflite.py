"""Runs `lightdet bench`: measures the latency of .tflite files side by side.

python export/benchmark_tflite.py a.tflite b.tflite --threads 1 2
"""

import sys

from keras_lightdet.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
