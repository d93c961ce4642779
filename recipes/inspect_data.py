"""Runs `lightdet inspect`: shows the content and the faults of a data set before training.

python recipes/inspect_data.py --data-dir my_data --input-size 320 --output montage.png
"""

import sys

from keras_lightdet.cli import main

if __name__ == "__main__":
    sys.exit(main(["inspect", *sys.argv[1:]]))
