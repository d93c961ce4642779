"""The interface of all evaluation results."""

from collections.abc import Sequence
from typing import Protocol, TypeAlias

Columns: TypeAlias = dict[str, str | int | float]  # a row of the table of classes: value by name of the column


class ClassResult(Protocol):
    """The result of one class."""

    def columns(self) -> Columns:
        """Returns the row of the class in a table; "class" comes first."""
        ...


class EvaluationResult(Protocol):
    """The result of an evaluation."""

    @property
    def classes(self) -> Sequence[ClassResult]:
        """The results of the classes in label order."""
        ...

    def figures(self) -> dict[str, float]:
        """Returns the summary figures by name."""
        ...
