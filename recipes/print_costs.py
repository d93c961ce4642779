"""What the networks cost beside what their authors publish: `costs.csv`, and the same as a table of Markdown.

    python recipes/print_costs.py                        # the table, from costs.csv, at once
    python recipes/print_costs.py --write docs/costs.md  # writes it between that file's two marks
    python recipes/print_costs.py --recount              # builds every network, writes costs.csv anew; half an hour

Parameters are the trainable ones, batch norms included; multiply-adds are those of convolutions and dense layers for
one image of `side` pixels, height x width where these differ. A row whose model is a backbone is its classifier of
1000 classes, unless its options say otherwise. Differences are ours over the published, in percent.
"""

import argparse
import csv
import json
from pathlib import Path

import keras_lightdet
from keras_lightdet import analysis, backbones

LEDGER = Path(__file__).with_name("costs.csv")
# Our count, the published figure, their difference, and what one of the published unit is in ours.
COMPARED = (
    ("parameters", "published_parameters_m", "parameters_differ_percent", 1e6),
    ("macs_m", "published_macs_m", "macs_differ_percent", 1.0),
)
MARKS = ("<!-- costs: written by recipes/print_costs.py --write -->", "<!-- costs end -->")
FEATURES_ONLY = ("LCNet",)


def read_ledger() -> list[dict]:
    """Returns the rows of `costs.csv`, all values text."""
    with LEDGER.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def count(row: dict) -> dict:
    """Builds a row's network and counts its trainable parameters and millions of multiply-adds."""
    options, sides = json.loads(row["options"]), [int(side) for side in row["side"].split("x")]
    shape = (sides[0], sides[-1], 3)
    if row["model"] in FEATURES_ONLY:
        model = getattr(backbones, row["model"])(shape, **options)
    elif row["model"] in backbones.__all__:
        model = getattr(backbones, row["model"])(shape, **{"num_classes": 1000, **options})
    else:
        model = getattr(keras_lightdet, row["model"])(input_shape=shape, **options)
    found = analysis.cost(model)
    return {"parameters": found.trainable_parameters, "macs_m": round(found.macs / 1e6, 2)}


def compare(row: dict) -> dict:
    """Returns the differences of a row in percent, as text; empty where nothing is published."""
    found = {}
    for ours, published, differ, unit in COMPARED:
        share = float(row[ours]) / (float(row[published]) * unit) - 1 if row[published] else None
        found[differ] = "" if share is None else f"{round(100 * share, 2) + 0.0:.2f}"  # no -0.00
    return found


def table(rows: list[dict]) -> str:
    """Returns the rows as a table of Markdown."""
    lines = [
        "| network | side | parameters | published | differ by | MACs, M | published | differ by | source | why |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        options = ", ".join(f"{key}={value!r}" for key, value in json.loads(row["options"]).items())
        cells = [f"`{row['model']}({options})`", row["side"]]
        for ours, published, differ, unit in COMPARED:
            theirs, share = row[published], compare(row)[differ]
            named = f"{theirs} M" if theirs and unit > 1 else theirs
            cells += [f"{float(row[ours]):,.0f}" if unit > 1 else f"{float(row[ours]):,.1f}", named]
            cells += [f"{float(share):+.1f} %" if share else ""]
        lines.append("| " + " | ".join([*cells, row["source"], row["reason"]]) + " |")
    return "\n".join(lines)


def put_table(text: str, rows: list[dict]) -> str:
    """Returns a document with the table of the rows between its two marks, in place of what is there.

    Raises:
        ValueError: If the document does not have the marks, once each.
    """
    if any(text.count(mark) != 1 for mark in MARKS):
        raise ValueError(f"Expected a document with {MARKS[0]!r} and {MARKS[1]!r} once each. Add the two lines.")
    before, rest = text.split(MARKS[0])
    return f"{before}{MARKS[0]}\n\n{table(rows)}\n\n{MARKS[1]}{rest.split(MARKS[1])[1]}"


def main(args: argparse.Namespace) -> None:
    """Prints the table, counted anew where that is asked for, or writes it into a document."""
    rows = read_ledger()
    if args.recount:
        rows = [{**row, **count(row)} for row in rows]
        rows = [{**row, **compare(row)} for row in rows]
        with LEDGER.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    if args.write:
        args.write.write_text(put_table(args.write.read_text(encoding="utf-8"), rows), encoding="utf-8")
    else:
        print(table(rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recount", action="store_true", help="build every network and write costs.csv anew")
    parser.add_argument("--write", type=Path, help="write the table into this file instead of printing it")
    main(parser.parse_args())
