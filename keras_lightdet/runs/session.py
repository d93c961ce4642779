"""Start and end of a recipe's process: flags, logging, seeds, and errors as one line."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from keras_lightdet.errors import LightdetError
from keras_lightdet.runs.settings import Settings, parse_settings
from keras_lightdet.training import make_reproducible


@contextmanager
def report_errors() -> Iterator[None]:
    """Ends the process with status 1 and the message, without a traceback, for faults of data, weights or checkpoints.

    Serves as a decorator too.
    """
    try:
        yield
    except LightdetError as error:
        sys.exit(f"error: {error}")


def start(settings_class: type[Settings], *arguments: Any, **options: Any) -> Settings:
    """Returns the settings of `parse_settings`, shows warnings of the package, and makes the run reproducible.

    Call it before a model is built.
    """
    settings = parse_settings(settings_class, *arguments, **options)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    make_reproducible(settings.seed)
    return settings
