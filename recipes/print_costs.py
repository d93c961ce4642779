"""What the networks cost beside what their authors publish, as a table of Markdown for the README.

    python recipes/print_costs.py                 # from costs.csv, at once
    python recipes/print_costs.py --recount       # builds every network and writes costs.csv anew, minutes

Parameters are the trainable ones, batch norms included; multiply-adds are those of convolutions and dense layers for
one picture. A row whose model is a backbone is its classifier of 1000 classes.
"""

import argparse
import csv
import json
from pathlib import Path

import keras_lightdet
from keras_lightdet import analysis, backbones

LEDGER = Path(__file__).with_name("costs.csv")
COUNTS = ("parameters", "macs_m")  # the columns that are counted here


def read_ledger() -> list[dict]:
    """Returns the rows of `costs.csv`, all values text."""
    with LEDGER.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def count(row: dict) -> dict:
    """Builds a row's network and counts its trainable parameters and millions of multiply-adds."""
    options, side = json.loads(row["options"]), int(row["side"])
    if hasattr(backbones, row["model"]):
        model = getattr(backbones, row["model"])((side, side, 3), num_classes=1000, **options)
    else:
        model = getattr(keras_lightdet, row["model"])(**options)
    found = analysis.cost(model)
    return {"parameters": found.trainable_parameters, "macs_m": round(found.macs / 1e6, 2)}


def table(rows: list[dict]) -> str:
    """Returns the rows as a table of Markdown, with the differences in percent."""
    lines = [
        "| network | side | parameters | published | differ by | MACs, M | published | differ by | source | why |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        options = ", ".join(f"{key}={value!r}" for key, value in json.loads(row["options"]).items())
        cells = [f"`{row['model']}({options})`", row["side"]]
        for ours, published, unit in (("parameters", "published_parameters_m", 1e6), ("macs_m", "published_macs_m", 1)):
            theirs = row[published]
            differ = f"{100 * (float(row[ours]) / (float(theirs) * unit) - 1):+.1f} %" if theirs else ""
            named = f"{theirs} M" if theirs and unit > 1 else theirs
            cells += [f"{float(row[ours]):,.0f}" if unit > 1 else f"{float(row[ours]):,.1f}", named, differ]
        lines.append("| " + " | ".join([*cells, row["source"], row["reason"]]) + " |")
    return "\n".join(lines)


def main(args: argparse.Namespace) -> None:
    """Prints the table, counted anew where that is asked for."""
    rows = read_ledger()
    if args.recount:
        rows = [{**row, **count(row)} for row in rows]
        with LEDGER.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    print(table(rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recount", action="store_true", help="build every network and write costs.csv anew")
    main(parser.parse_args())
