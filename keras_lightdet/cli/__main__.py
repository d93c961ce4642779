"""Runs the command `lightdet` as `python -m keras_lightdet.cli`."""

import sys

from keras_lightdet.cli import main

if __name__ == "__main__":
    sys.exit(main())
