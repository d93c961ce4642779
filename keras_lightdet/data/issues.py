"""Faults in a data set: those its files show while they are read, and images that fail to decode later."""

import logging
import threading
from dataclasses import dataclass
from pathlib import Path

from keras_lightdet.errors import DataError

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataIssue:
    """A fault in a data set that was skipped or corrected.

    Attributes:
        kind: The same text for all faults of a kind.
        path: The file at fault.
        detail: What is wrong, and what was done about it.
    """

    kind: str
    path: str
    detail: str


class IssueLog:
    """Collects the faults of a data set, or raises the first one.

    Args:
        strict: Whether to raise `DataError` instead of collecting.
    """

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict
        self.issues: list[DataIssue] = []

    def report(self, kind: str, path: str | Path, detail: str | DataError) -> None:
        """Records a fault, which a text or an exception describes.

        Raises:
            DataError: In strict mode; an exception is raised as it is.
        """
        if not self.strict:
            self.issues.append(DataIssue(kind, str(path), str(detail)))
        elif isinstance(detail, DataError):
            raise detail
        else:
            raise DataError(f"{path}: {detail} ({kind}). Fix the file, or load without strict to skip it.")


class DecodeFailures:
    """Counts the files that fail to decode while a pipeline runs, and logs each once. Thread-safe.

    Attributes:
        paths: Number of failures by path.
    """

    def __init__(self) -> None:
        self.paths: dict[str, int] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.paths)

    def add(self, path: str, error: Exception) -> None:
        """Counts a failure and logs a warning at the first one of a file."""
        with self._lock:
            self.paths[path] = self.paths.get(path, 0) + 1
            is_first = self.paths[path] == 1
        if is_first:
            _logger.warning("Skipped a damaged image: %s", error)
