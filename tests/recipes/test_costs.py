"""The table of costs: its counts are those of the networks, and differences from published figures have a reason."""

import itertools
import json
from pathlib import Path

import pytest

from keras_lightdet import backbones, models
from keras_lightdet.backbones.shufflenet_v2 import VARIANTS as SHUFFLENET_WIDTHS
from keras_lightdet.cli.costs import COMPARED, MARKS, compare, count, put_table, read_costs, table
from keras_lightdet.models.registry import list_variants

ROOT = Path(__file__).parents[2]
ROWS = read_costs()
# The smallest variant of some models.
FAST = ("BiSeNet-xception39", "LCNet", "MobileNetV2-0.35", "RSANet-voc", "ShuffleNetV2-0.5-split", "SNet-snet49")


def row_name(row):
    return "-".join([row["model"], *map(str, json.loads(row["options"]).values())])


def is_first_of_its_name(row):
    return next(other for other in ROWS if row_name(other) == row_name(row)) is row


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(
            row,
            marks=[pytest.mark.slow] * (row_name(row) not in FAST or not is_first_of_its_name(row)),
            id=f"{row_name(row)}-{row['side']}",
        )
        for row in ROWS
    ],
)
def test_counts_are_those_of_the_networks(row):
    counted = count(row)
    assert counted["parameters"] == row["parameters"]
    assert float(counted["macs_m"]) == pytest.approx(float(row["macs_m"]), rel=5e-5)


def test_differences_from_the_published_figures_have_a_reason():
    for row in ROWS:
        for counted, published, difference, unit in COMPARED:
            if not row[published]:
                assert row[difference] == ""
                continue
            percent = 100 * float(row[counted]) / unit / float(row[published]) - 100
            assert float(row[difference]) == pytest.approx(percent, abs=0.006)
            if abs(percent) > 1.5:
                assert row["reason"], f"{row_name(row)}: {row[counted]} against {row[published]}"
        assert row["source"] or row["reason"]
        assert bool(row["source"]) or not (row["published_parameters_m"] or row["published_macs_m"])


def variant_options():
    """Returns (builder, options) of every variant."""
    shufflenets = [
        {"width": width, "unit": unit, **({"extra_depthwise": True} if extra else {})}
        for width, unit, extra in itertools.product(SHUFFLENET_WIDTHS, ("split", "keep"), (False, True))
    ]
    variants = [(variant.builder, dict(variant.options)) for variant in list_variants()]
    return [
        *((builder, options) for builder, options in variants if builder != "ShuffleNetV2"),
        *(("ShuffleNetV2", options) for options in shufflenets),
        ("LCNet", {}),
    ]


def test_every_variant_of_every_model_has_a_row():
    expected = variant_options()
    assert {builder for builder, _ in expected} == {*models.__all__, *backbones.__all__}
    rows = {(row["model"], row["options"]) for row in ROWS}
    assert not [variant for variant in expected if (variant[0], json.dumps(variant[1])) not in rows]
    keys = [(row["model"], row["options"], row["side"]) for row in ROWS]
    assert len(set(keys)) == len(keys)


def test_the_table_shows_differences_in_percent():
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
    assert compare(row) == {"parameters_differ_percent": "1.00", "macs_differ_percent": "-1.00"}
    last = table([row]).splitlines()[-1]
    assert last == "| `Net(width=0.5)` | 64 | 1,010,000 | 1.0 M | +1.0 % | 9.9 | 10 | -1.0 % | a paper |  |"
    unpublished = {**row, "published_parameters_m": "", "published_macs_m": ""}
    assert table([unpublished]).splitlines()[-1].count("%") == 0


def test_the_document_has_the_table_of_the_file():
    text = (ROOT / "docs" / "costs.md").read_text(encoding="utf-8")
    assert put_table(text, ROWS) == text


def test_a_document_without_the_marks_is_rejected():
    start, end = MARKS
    assert put_table(f"a\n{start}\nold\n{end}\nb", ROWS[:1]).startswith(f"a\n{start}\n\n| network |")
    for text in ("", f"{start}{start}{end}", start):
        with pytest.raises(ValueError, match="once each"):
            put_table(text, ROWS)
