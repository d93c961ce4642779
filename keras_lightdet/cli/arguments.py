"""Arguments that several commands share.

The choices and defaults repeat constants of modules that import TensorFlow, which help texts must
not wait for; `tests/cli/test_main.py` compares them.
"""

import argparse

from keras_lightdet.files import expand_user

QUANTIZE_MODES = ("none", "float16", "dynamic", "int8")
POSTPROCESS_FORMS = ("builtin", "custom_op", "none")
ACTIVATIONS = ("softmax", "none")
DETECTION_FORMATS = ("auto", "voc", "coco")
SCORE_THRESHOLD = 0.3
BENCHMARK_ROUNDS = 100
BATCH_SIZE = 8
WEIGHTS_HELP = "a .weights.h5 with its record .weights.json beside it"


def positive_int(text: str) -> int:
    """Returns the positive integer of an argument.

    Raises:
        argparse.ArgumentTypeError: Another text.
    """
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a positive integer, got {text!r}")
    return int(text)


def add_import_argument(parser: argparse.ArgumentParser) -> None:
    """Adds `--import`."""
    parser.add_argument(
        "--import",
        type=expand_user,
        dest="python_file",
        metavar="FILE",
        help="a Python file with the builder of the weights, if it is not part of the package",
    )


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds `--weights` and `--model`, of which exactly one is required, `--import` and `--threads`."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--weights", type=expand_user, metavar="FILE", help=WEIGHTS_HELP)
    source.add_argument("--model", type=expand_user, metavar="FILE", help="a .tflite file written by `lightdet export`")
    add_import_argument(parser)
    parser.add_argument(
        "--threads", type=positive_int, default=1, metavar="N", help="threads that run a .tflite (default: 1)"
    )


def add_data_arguments(parser: argparse.ArgumentParser, *, required: bool, purpose: str) -> None:
    """Adds `--data-dir` and `--format`."""
    parser.add_argument("--data-dir", type=expand_user, metavar="FOLDER", required=required, help=purpose)
    parser.add_argument(
        "--format",
        default="auto",
        choices=DETECTION_FORMATS,
        help="format of labeled boxes (default: auto, detected by the files)",
    )
