"""Progress of a loop on stderr."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

_TERMINAL_SECONDS, _LOG_SECONDS = 0.2, 10.0  # between two messages
Item = TypeVar("Item")


def show_progress(items: Iterable[Item], total: int | None, noun: str = "images") -> Iterator[Item]:
    """Yields the items; prints "12/100 images" on one line of a terminal, or a line every ten seconds in a log."""
    terminal = sys.stderr.isatty()
    interval, last = (_TERMINAL_SECONDS if terminal else _LOG_SECONDS), time.monotonic()
    of_total = f"/{total}" if total else ""
    for number, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last >= interval or (terminal and number == total):
            print(f"{number}{of_total} {noun}", end="\r" if terminal else "\n", file=sys.stderr, flush=True)
            last = time.monotonic()
    if terminal:
        print(file=sys.stderr)
