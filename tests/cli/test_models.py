"""`lightdet models`: the variants and their costs."""

import json

from keras_lightdet import models
from keras_lightdet.cli.costs import read_costs


def test_the_table_lists_models_and_published_figures(run):
    lines = run("models").splitlines()
    assert lines[0].split() == ["model", "options", "input", "parameters", "published", "MACs", "published", "source"]
    (row,) = (line for line in lines if line.startswith("RSANet") and line.split()[1] == "voc")
    assert row.split()[2:] == ["416", "3.28", "M", "3.24", "M", "1.72", "G", "1.77", "G", "Zhou", "et", "al.", "2021"]
    assert {line.split()[0] for line in lines[1:]} == set(models.__all__)


def test_builders_are_filtered_without_regard_to_case(run):
    lines = run("models", "rsanet", "SNet").splitlines()[1:]
    assert {line.split()[0] for line in lines} == {"RSANet", "SNet"}


def test_json_has_every_row_of_the_costs_file(run):
    variants = json.loads(run("models", "--backbones", "--json"))
    rows = read_costs()
    assert len(variants) == len(rows)
    for variant, row in zip(variants, rows, strict=True):
        assert variant["model"] == row["model"] and variant["options"] == json.loads(row["options"])
        assert variant["parameters"] == int(row["parameters"])
        assert variant["input_size"][1] == int(row["side"].split("x")[-1])
        assert (variant["published_macs"] is None) == (row["published_macs_m"] == "")


def test_costs_are_not_written_to_a_document_without_marks(run, tmp_path):
    document = tmp_path / "costs.md"
    document.write_text("# Costs\n")
    assert run("costs", "--write", document, code=1).startswith("error: Expected a document with ")
    assert document.read_text() == "# Costs\n"
