"""What all evaluation results have in common."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol, TypeAlias

Columns: TypeAlias = dict[str, str | int | float]  # a row of the table of classes: value by name of the column


class ClassResult:
    """Base class of the results of one class: dataclasses of a `name`, figures (floats) and counts ("num_..")."""

    name: str

    def columns(self) -> Columns:
        """Returns the row of the class in a table: "class", then the figures and counts by name, without "num_"."""
        assert dataclasses.is_dataclass(self)
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        numbers = {
            key.removeprefix("num_"): value
            for key, value in values.items()
            if isinstance(value, float) or key.startswith("num_")
        }
        return {"class": self.name, **numbers}


class EvaluationResult(Protocol):
    """The result of an evaluation."""

    @property
    def classes(self) -> Sequence[ClassResult]:
        """The results of the classes in label order."""
        ...

    def figures(self) -> dict[str, float]:
        """Returns the summary figures by name."""
        ...
