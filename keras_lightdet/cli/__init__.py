"""The command `lightdet`: trains, runs, evaluates and exports models from the command line.

Exit codes: 0, success; 1, an error in data, weights or files, with one line on stderr, differences
that `lightdet check` lists, or a closed output pipe; 2, wrong usage; 130, interrupted.
"""

import argparse
import os
import sys
from collections.abc import Sequence

import keras_lightdet
from keras_lightdet.cli import bench, check, costs, detect, evaluate, export, inspect, models, train
from keras_lightdet.cli.user_files import import_file
from keras_lightdet.errors import LightdetError

COMMANDS = {
    "train": train,
    "inspect": inspect,
    "detect": detect,
    "evaluate": evaluate,
    "export": export,
    "check": check,
    "bench": bench,
    "models": models,
    "costs": costs,
}
_DESCRIPTION = """\
Small, fast object detectors and segmenters in Keras, trained on your own images and exported to TFLite.

    lightdet inspect --data-dir my_data
    lightdet train rsanet_voc --data-dir my_data --output-dir out --export
    lightdet detect photos/ --weights out/best.weights.h5
    lightdet evaluate --weights out/best.weights.h5 --data-dir my_data
    lightdet export --weights out/best.weights.h5 --data-dir my_data --output detector.tflite
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: The arguments without the program's name; None = those of the process.

    Returns:
        The exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported: errors only
    try:
        return _run(arguments)
    except BrokenPipeError:  # the reader, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes stdout once more
        return 1
    except (LightdetError, ImportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(arguments: Sequence[str]) -> int:
    try:
        if arguments[:1] == ["train"]:  # the flags behind the name of the recipe are the recipe's, --help among them
            return train.run(arguments[1:])
        values = vars(build_parser().parse_args(arguments))
        python_file = values.pop("python_file", None)
        if python_file is not None:
            import_file(python_file)
        return COMMANDS[values.pop("command")].run(**values)
    finally:
        sys.stdout.flush()  # raises the error of a closed pipe here instead of at the end of the process


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands, without importing TensorFlow."""
    parser = argparse.ArgumentParser(
        prog="lightdet", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"lightdet {keras_lightdet.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    for name, module in COMMANDS.items():
        description = module.__doc__ or ""
        command = commands.add_parser(
            name,
            help=description.partition("\n")[0],
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
    return parser
