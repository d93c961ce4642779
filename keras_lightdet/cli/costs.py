"""Print the costs of all networks beside the published figures, as a Markdown table.

    lightdet costs                              # the table of keras_lightdet/analysis/costs.csv
    lightdet costs --write docs/costs.md        # writes it between the two marks of that file
    lightdet costs --recount                    # builds every network and updates costs.csv: half an hour

Parameters are the trainable ones, including those of batch norms. MACs are multiply-adds of
convolutions and dense layers for one image of `side` pixels, height x width where these differ. A
backbone is counted as its classifier of 1000 classes, unless its options say otherwise. Differences
are the count here over the published figure, in percent.
"""

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from keras_lightdet.errors import DataError
from keras_lightdet.files import expand_user

COSTS_FILE = Path(__file__).parents[1] / "analysis" / "costs.csv"
# Columns of count, published figure and difference, and the factor from the published unit to the counted one.
COMPARED = (
    ("parameters", "published_parameters_m", "parameters_differ_percent", 1e6),
    ("macs_m", "published_macs_m", "macs_differ_percent", 1.0),
)
MARKS = ("<!-- costs: written by lightdet costs --write -->", "<!-- costs end -->")
FEATURES_ONLY = ("LCNet",)  # backbones that have no classifier

CostRow: TypeAlias = dict[str, str]  # column -> text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--recount", action="store_true", help="build every network and update costs.csv")
    parser.add_argument(
        "--write",
        type=expand_user,
        metavar="FILE",
        help="write the table into this Markdown file instead of printing it",
    )


def run(*, recount: bool, write: Path | None) -> int:
    """Prints the table or writes it into a document, after counting again if `recount`."""
    rows = read_costs()
    if recount:
        rows = [{**row, **count(row)} for row in rows]
        rows = [{**row, **compare(row)} for row in rows]
        with COSTS_FILE.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    if write is None:
        print(table(rows))
    else:
        write.write_text(put_table(write.read_text(encoding="utf-8"), rows), encoding="utf-8")
    return 0


def read_costs() -> list[CostRow]:
    """Returns the rows of `costs.csv`."""
    with COSTS_FILE.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_size(row: CostRow) -> tuple[int, int]:
    """Returns the height and width of the input of a row's network."""
    sides = [int(side) for side in row["side"].split("x")]
    return sides[0], sides[-1]


def count(row: CostRow) -> CostRow:
    """Builds a row's network and counts its trainable parameters and its MACs in millions."""
    import keras_lightdet
    from keras_lightdet import analysis, backbones

    options, shape = json.loads(row["options"]), (*read_size(row), 3)
    if row["model"] in FEATURES_ONLY:
        model = getattr(backbones, row["model"])(shape, **options)
    elif row["model"] in backbones.__all__:
        model = getattr(backbones, row["model"])(shape, **{"num_classes": 1000, **options})
    else:
        model = getattr(keras_lightdet, row["model"])(input_shape=shape, **options)
    cost = analysis.cost(model)
    return {"parameters": str(cost.trainable_parameters), "macs_m": str(round(cost.macs / 1e6, 2))}


def compare(row: CostRow) -> CostRow:
    """Returns the differences of a row in percent; empty where nothing is published."""
    differences = {}
    for counted, published, difference, unit in COMPARED:
        ratio = float(row[counted]) / (float(row[published]) * unit) - 1 if row[published] else None
        differences[difference] = "" if ratio is None else f"{round(100 * ratio, 2) + 0.0:.2f}"  # no -0.00
    return differences


def table(rows: Sequence[CostRow]) -> str:
    """Returns the rows as a Markdown table."""
    lines = [
        "| network | side | parameters | published | differ by | MACs, M | published | differ by | source | why |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        options = ", ".join(f"{key}={value!r}" for key, value in json.loads(row["options"]).items())
        cells = [f"`{row['model']}({options})`", row["side"]]
        for counted, published, difference, unit in COMPARED:
            figure, percent = row[published], compare(row)[difference]
            cells.append(f"{float(row[counted]):,.0f}" if unit > 1 else f"{float(row[counted]):,.1f}")
            cells.append(f"{figure} M" if figure and unit > 1 else figure)
            cells.append(f"{float(percent):+.1f} %" if percent else "")
        lines.append("| " + " | ".join([*cells, row["source"], row["reason"]]) + " |")
    return "\n".join(lines)


def put_table(text: str, rows: Sequence[CostRow]) -> str:
    """Returns a document in which the table is between the two marks, in place of the previous text.

    Raises:
        DataError: The document does not have each mark once.
    """
    if any(text.count(mark) != 1 for mark in MARKS):
        raise DataError(f"Expected a document with {MARKS[0]!r} and {MARKS[1]!r} once each. Add the two lines.")
    before, rest = text.split(MARKS[0])
    return f"{before}{MARKS[0]}\n\n{table(rows)}\n\n{MARKS[1]}{rest.split(MARKS[1])[1]}"
