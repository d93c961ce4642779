"""The ledger of costs: what it says is what the networks have, and what differs from the published has a reason."""

import importlib
import itertools
import json
import runpy
from pathlib import Path

import pytest

import keras_lightdet
from keras_lightdet import backbones
from keras_lightdet.backbones import (
    efficientnet,
    mobile_spinenet,
    resnet,
    shufflenet_v2,
    snet,
    spinenet,
    xception_dfanet,
)

ROOT = Path(__file__).parents[2]
LEDGER = runpy.run_path(str(ROOT / "recipes" / "print_costs.py"))
ROWS = LEDGER["read_ledger"]()
COLUMNS = [tuple(columns) for columns in LEDGER["COMPARED"]]
# Of one model each, the quickest to build.
FAST = ("BiSeNet-xception39", "LCNet", "MobileNetV2-0.35", "RSANet-voc", "ShuffleNetV2-0.5-split", "SNet-snet49")


def named(row):
    return "-".join([row["model"], *map(str, json.loads(row["options"]).values())])


def first_of_each_size(row):
    return next(each for each in ROWS if named(each) == named(row)) is row


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(
            row,
            marks=[pytest.mark.slow] * (named(row) not in FAST or not first_of_each_size(row)),
            id=f"{named(row)}-{row['side']}",
        )
        for row in ROWS
    ],
)
def test_our_counts_are_those_of_the_networks(row):
    found = LEDGER["count"](row)
    assert found["parameters"] == int(row["parameters"])
    assert found["macs_m"] == pytest.approx(float(row["macs_m"]), rel=5e-5)


def test_what_differs_from_the_published_figures_has_a_reason():
    for row in ROWS:
        for ours, published, differ, unit in COLUMNS:
            if not row[published]:
                assert row[differ] == ""
                continue
            percent = 100 * float(row[ours]) / unit / float(row[published]) - 100
            assert float(row[differ]) == pytest.approx(percent, abs=0.006)
            if abs(percent) > 1.5:
                assert row["reason"], f"{named(row)}: {row[ours]} against {row[published]}"
        assert row["source"] or row["reason"]
        assert bool(row["source"]) or not (row["published_parameters_m"] or row["published_macs_m"])


def of(name, values):
    return [{name: value} for value in values]


def shufflenets():
    return [
        {"width": width, "unit": unit, **({"extra_depthwise": True} if extra else {})}
        for width, unit, extra in itertools.product(shufflenet_v2.WIDTHS, shufflenet_v2.UNITS, (False, True))
    ]


def variants():
    """Options of every size of every model, by the builder's name, from the tables that the builders read."""
    found = {name: of("variant", module_of(name).VARIANTS) for name in keras_lightdet.models.__all__}
    found |= {
        "EfficientNet": of("variant", efficientnet.VARIANTS),
        "LCNet": [{}],
        "MobileNetV2": of("width", (1.4, 1.3, 1.0, 0.75, 0.5, 0.35)),  # any is built; these have checkpoints
        "MobileSpineNet": of("variant", mobile_spinenet.VARIANTS),
        "ResNet": of("depth", resnet.DEPTHS),
        "SNet": of("variant", snet.VARIANTS),
        "ShuffleNetV2": shufflenets(),
        "SpineNet": of("variant", spinenet.VARIANTS),
        "Xception39": [{}],
        "XceptionDFANet": of("variant", xception_dfanet.WIDTHS),
        "XceptionLight": [{}],
    }
    return found


def module_of(builder):
    return importlib.import_module(getattr(keras_lightdet, builder).__module__)


def test_every_size_of_every_model_has_a_row():
    wanted = variants()
    assert set(wanted) == {*keras_lightdet.models.__all__, *backbones.__all__}
    rows = {(row["model"], row["options"]) for row in ROWS}
    missing = [
        (name, each) for name, all_of in wanted.items() for each in all_of if (name, json.dumps(each)) not in rows
    ]
    assert not missing
    keys = [(row["model"], row["options"], row["side"]) for row in ROWS]
    assert len(set(keys)) == len(keys)


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
    assert LEDGER["compare"](row) == {"parameters_differ_percent": "1.00", "macs_differ_percent": "-1.00"}
    last = LEDGER["table"]([row]).splitlines()[-1]
    assert last == "| `Net(width=0.5)` | 64 | 1,010,000 | 1.0 M | +1.0 % | 9.9 | 10 | -1.0 % | a paper |  |"
    unpublished = {**row, "published_parameters_m": "", "published_macs_m": ""}
    assert LEDGER["table"]([unpublished]).splitlines()[-1].count("%") == 0


def test_the_cost_page_has_the_table_of_the_ledger():
    text = (ROOT / "docs" / "costs.md").read_text(encoding="utf-8")
    assert LEDGER["put_table"](text, ROWS) == text


def test_a_document_without_the_marks_is_refused():
    start, end = LEDGER["MARKS"]
    assert LEDGER["put_table"](f"a\n{start}\nold\n{end}\nb", ROWS[:1]).startswith(f"a\n{start}\n\n| network |")
    for text in ("", f"{start}{start}{end}", start):
        with pytest.raises(ValueError, match="once each"):
            LEDGER["put_table"](text, ROWS)
