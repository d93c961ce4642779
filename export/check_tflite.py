"""Runs `lightdet check`: checks a .tflite file, its metrics and its outputs in MediaPipe.

python export/check_tflite.py m.tflite --data-dir my_data --weights out/best.weights.h5
"""

import sys

from keras_lightdet.cli import main

if __name__ == "__main__":
    sys.exit(main(["check", *sys.argv[1:]]))
