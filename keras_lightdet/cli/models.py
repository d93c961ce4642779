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
from typing import Any, TypedDict

import keras_lightdet
from keras_lightdet.cli.costs import CostRow, read_costs
from keras_lightdet.errors import DataError

_HEADER = ("model", "options", "input", "parameters", "published", "MACs", "published", "source")
_TEXT_COLUMNS = (0, 1, 7)  # aligned to the left


class VariantCosts(TypedDict):
    """Costs of a variant; `input_size` is height and width in pixels, figures are None where not published."""

    model: str
    options: dict[str, Any]
    input_size: list[int]
    parameters: int
    macs: int
    published_parameters: int | None
    published_macs: int | None
    source: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("builder", nargs="*", help="builders to list, such as RSANet (default: all models)")
    parser.add_argument("--backbones", action="store_true", help="list backbones as well")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(*, builder: Sequence[str], backbones: bool, json: bool) -> int:
    """Prints the table, or JSON."""
    rows = read_costs()
    known = {row["model"].lower(): row["model"] for row in rows}
    unknown = [name for name in builder if name.lower() not in known]
    if unknown:
        raise DataError(f"Expected builders of {', '.join(sorted(known.values()))}, got {', '.join(unknown)}.")
    names = {known[name.lower()] for name in builder}
    names = names or {name for name in known.values() if backbones or name in keras_lightdet.__all__}
    variants = [_parse(row) for row in rows if row["model"] in names]
    print(_to_json(variants) if json else _to_table(variants))
    return 0


def _parse(row: CostRow) -> VariantCosts:
    sides = [int(side) for side in row["side"].split("x")]
    return {
        "model": row["model"],
        "options": json.loads(row["options"]),
        "input_size": [sides[0], sides[-1]],
        "parameters": int(row["parameters"]),
        "macs": _millions(row["macs_m"]) or 0,
        "published_parameters": _millions(row["published_parameters_m"]),
        "published_macs": _millions(row["published_macs_m"]),
        "source": row["source"],
    }


def _millions(text: str) -> int | None:
    return round(float(text) * 1e6) if text else None


def _to_json(variants: Sequence[VariantCosts]) -> str:
    return json.dumps(variants, indent=1)


def _to_table(variants: Sequence[VariantCosts]) -> str:
    cells = [_HEADER, *map(_cells, variants)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        aligned = (
            text.ljust(width) if index in _TEXT_COLUMNS else text.rjust(width)
            for index, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(aligned).rstrip())
    return "\n".join(lines)


def _cells(variant: VariantCosts) -> tuple[str, ...]:
    options = ", ".join(
        f"{value}" if key == "variant" else f"{key}={value}" for key, value in variant["options"].items()
    )
    height, width = variant["input_size"]
    return (
        variant["model"],
        options,
        f"{height}" if height == width else f"{height}x{width}",
        _short(variant["parameters"], "M"),
        _short(variant["published_parameters"], "M"),
        _short(variant["macs"], "G"),
        _short(variant["published_macs"], "G"),
        variant["source"],
    )


def _short(number: int | None, unit: str) -> str:
    return "-" if number is None else f"{number / (1e6 if unit == 'M' else 1e9):.2f} {unit}"
