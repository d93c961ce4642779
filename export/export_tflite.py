"""Runs `lightdet export`: exports a trained model to a verified .tflite file.

python export/export_tflite.py --weights out/best.weights.h5 --quantize int8 --data-dir my_data --output m.tflite
"""

import sys

from keras_lightdet.cli import main

if __name__ == "__main__":
    sys.exit(main(["export", *sys.argv[1:]]))
