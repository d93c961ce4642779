"""The ledger of costs: what it says is what the networks have, and what differs from the published has a reason."""

import json
import runpy
from pathlib import Path

import pytest

LEDGER = runpy.run_path(str(Path(__file__).parents[2] / "recipes" / "print_costs.py"))
ROWS = LEDGER["read_ledger"]()
FAST = ("SNet", "ThunderNet")
SMALL = [row for row in ROWS if row["model"] in FAST]


def named(row):
    return "-".join([row["model"], *map(str, json.loads(row["options"]).values())])


@pytest.mark.parametrize(
    "row", [pytest.param(row, marks=[pytest.mark.slow] * (row not in SMALL[:2]), id=named(row)) for row in ROWS]
)
def test_our_counts_are_those_of_the_networks(row):
    found = LEDGER["count"](row)
    assert found["parameters"] == int(row["parameters"])
    assert found["macs_m"] == pytest.approx(float(row["macs_m"]), rel=5e-4)


def test_what_differs_from_the_published_figures_has_a_reason():
    for row in ROWS:
        for ours, published, unit in (("parameters", "published_parameters_m", 1e6), ("macs_m", "published_macs_m", 1)):
            if row[published] and abs(float(row[ours]) / unit / float(row[published]) - 1) > 0.015:
                assert row["reason"], f"{named(row)}: {row[ours]} against {row[published]}"
        assert row["source"] or row["reason"]


def test_the_table_tells_differences_in_percent():
    row = {
        "model": "Net",
        "options": '{"width": 0.5}',
        "side": "64",
        "parameters": "1010000",
        "macs_m": "9.9",
        "published_parameters_m": "1.0",
        "published_macs_m": "10",
        "source": "a paper",
        "reason": "",
    }
    last = LEDGER["table"]([row]).splitlines()[-1]
    assert last == "| `Net(width=0.5)` | 64 | 1,010,000 | 1.0 M | +1.0 % | 9.9 | 10 | -1.0 % | a paper |  |"
