"""List the variants of all models with their input size and costs.

    lightdet models
    lightdet models EfficientDet
    lightdet models --backbones --json

Parameters are trainable parameters; MACs are multiply-adds for one image of the input size.
Published figures are those of the papers or of the authors' code.
"""

import argparse
import json
from collections.abc import Sequence
from typing import Any

import keras_lightdet
from keras_lightdet.cli.costs import CostRow, read_costs, read_size
from keras_lightdet.errors import DataError

_HEADER = ("model", "options", "input", "parameters", "published", "MACs", "published", "source")
_TEXT_COLUMNS = (0, 1, 7)  # aligned to the left


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("builder", nargs="*", help="builders to list, such as RSANet (default: all models)")
    parser.add_argument("--backbones", action="store_true", help="list backbones as well")
    parser.add_argument("--json", dest="as_json", action="store_true", help="print JSON instead of a table")


def run(*, builder: Sequence[str], backbones: bool, as_json: bool) -> int:
    """Prints the table, or JSON."""
    rows = read_costs()
    known = {row["model"].lower(): row["model"] for row in rows}
    unknown = [name for name in builder if name.lower() not in known]
    if unknown:
        raise DataError(f"Expected builders of {', '.join(sorted(known.values()))}, got {', '.join(unknown)}.")
    names = {known[name.lower()] for name in builder}
    names = names or {name for name in known.values() if backbones or name in keras_lightdet.__all__}
    rows = [row for row in rows if row["model"] in names]
    print(json.dumps([_as_data(row) for row in rows], indent=1) if as_json else _table(rows))
    return 0


def _as_data(row: CostRow) -> dict[str, Any]:
    """Returns a row as JSON-able data: sizes in pixels, counts as integers, None where no figure is published."""
    return {
        "model": row["model"],
        "options": json.loads(row["options"]),
        "input_size": read_size(row),
        "parameters": int(row["parameters"]),
        "macs": _millions(row["macs_m"]),
        "published_parameters": _millions(row["published_parameters_m"]),
        "published_macs": _millions(row["published_macs_m"]),
        "source": row["source"],
    }


def _millions(text: str) -> int | None:
    return round(float(text) * 1e6) if text else None


def _table(rows: Sequence[CostRow]) -> str:
    cells = [_HEADER, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        aligned = (
            text.ljust(width) if index in _TEXT_COLUMNS else text.rjust(width)
            for index, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(aligned).rstrip())
    return "\n".join(lines)


def _cells(row: CostRow) -> tuple[str, ...]:
    options = json.loads(row["options"]).items()
    return (
        row["model"],
        ", ".join(f"{value}" if key == "variant" else f"{key}={value}" for key, value in options),
        row["side"],
        _figure(row["parameters"], 1e6, "M"),
        _figure(row["published_parameters_m"], 1, "M"),
        _figure(row["macs_m"], 1e3, "G"),
        _figure(row["published_macs_m"], 1e3, "G"),
        row["source"],
    )


def _figure(text: str, divisor: float, unit: str) -> str:
    return f"{float(text) / divisor:.2f} {unit}" if text else "-"
