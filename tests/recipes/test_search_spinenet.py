"""The search for a SpineNet: a killed search resumes, its files, and the networks of its proxies."""

import json
from pathlib import Path

import numpy as np
import pytest
from recipe_modules import load_recipe

from keras_lightdet import runs
from keras_lightdet.backbones.scale_permuted import Block, check_blocks
from keras_lightdet.backbones.spinenet import SPINENET
from keras_lightdet.backbones.spinenet_search import KINDS
from keras_lightdet.data import draw_detection_scenes, load_detection
from keras_lightdet.errors import CheckpointError
from keras_lightdet.runs.spinenet_search import (
    GraphLog,
    SearchSettings,
    hold_out,
    proxy,
    proxy_backbone,
    search,
)


class Counted:
    """A score, the similarity to SpineNet-49, that counts its calls; one of them interrupts the process."""

    def __init__(self, interrupted_at=None):
        self.interrupted_at, self.calls = interrupted_at, 0

    def __call__(self, blocks):
        self.calls += 1
        if self.calls == self.interrupted_at:
            raise KeyboardInterrupt
        return sum((a.level == b.level) + (a.kind == b.kind) for a, b in zip(blocks, SPINENET, strict=True)) / 30


def read_settings(*flags):
    recipe = load_recipe("search_spinenet")
    return runs.parse_settings(SearchSettings, flags, None, "", recipe.DEFAULTS, recipe.DEMO)


def run(folder, flags, score, *, resume=False, config=None):
    """Searches as the recipe does, with a score of its own."""
    settings = read_settings(*flags)
    log = GraphLog(folder, score, config or {"flags": flags}, resume=resume)
    return search(log, settings)


@pytest.mark.parametrize("method", ["reinforce", "evolve"])
def test_a_killed_search_resumes_to_the_same_graphs(method, tmp_path):
    flags = ["--method", method, "--rounds", "9", "--batch", "3", "--rate", "0.05"]
    whole = run(tmp_path / "whole", flags, Counted())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", flags, Counted(interrupted_at=6))
    lines = tmp_path / "killed" / "graphs.jsonl"
    with lines.open("a") as file:
        file.write('{"round": 6, "score": 0.')  # killed while it wrote
    rest = Counted()
    assert run(tmp_path / "killed", flags, rest, resume=True) == whole
    assert rest.calls == 9 - 5
    ours, theirs = ((tmp_path / name / "graphs.jsonl").read_text().splitlines() for name in ("killed", "whole"))
    assert len(ours) == 1 + 9
    fields = ("round", "score", "blocks")
    assert [[json.loads(a)[key] for key in fields] for a in ours[1:]] == [
        [json.loads(b)[key] for key in fields] for b in theirs[1:]
    ]
    again = Counted()
    assert run(tmp_path / "killed", flags, again, resume=True) == whole
    assert again.calls == 0


def test_found_graph_is_the_best_and_builds(tmp_path):
    blocks, score = run(tmp_path, ["--rounds", "4", "--batch", "2"], Counted())
    best = json.loads((tmp_path / "found.json").read_text())
    assert best["score"] == score == max(json.loads(line)["score"] for line in read_graphs(tmp_path))
    assert tuple(Block(*block[:2], tuple(block[2]), block[3]) for block in best["blocks"]) == blocks
    check_blocks(blocks, KINDS)
    pyramid = proxy_backbone(best["blocks"])(np.zeros((1, 64, 96, 3)))
    assert {level: tuple(x.shape[1:]) for level, x in pyramid.items()} == {
        f"P{level}": (-(-64 // 2**level), -(-96 // 2**level), 64) for level in range(3, 8)
    }


def read_graphs(folder):
    return (folder / "graphs.jsonl").read_text().splitlines()[1:]


def test_scores_of_another_search_are_refused(tmp_path):
    flags = ["--rounds", "2", "--batch", "2"]
    run(tmp_path, flags, Counted())
    with pytest.raises(CheckpointError, match="--resume"):
        run(tmp_path, flags, Counted())
    with pytest.raises(CheckpointError, match=r"\['seed'\] differ"):
        run(tmp_path, flags, Counted(), resume=True, config={"flags": flags, "seed": 1})
    with pytest.raises(CheckpointError, match="graph 1 to be that of"):
        run(tmp_path, [*flags, "--seed", "5"], Counted(), resume=True, config={"flags": flags})


def test_images_are_held_out_evenly(tmp_path):
    data = load_detection(draw_detection_scenes(tmp_path, {"trainval": 16}, seed=0), "trainval")
    trained, held_out = hold_out(data, 0.25)
    names = [Path(record.path).stem for record in held_out.records]
    assert names == [f"scene_{number:05d}" for number in (3, 7, 11, 15)]
    assert {record.path for record in data.records} == {
        record.path for split in (trained, held_out) for record in split.records
    }
    assert len(trained) == 12


# A quarter of SpineNet-49's widths 64, 128 and 256, and within resamplings a quarter of those again.
def test_proxies_have_a_quarter_of_the_widths():
    model = proxy(SPINENET, ("a", "b"), (64, 64))
    backbone = model.network.get_layer("backbone")
    filters = {layer.name: layer.filters for layer in backbone.layers if hasattr(layer, "filters")}
    assert filters["stem_conv"] == 64
    assert [filters[f"block{index}_copy1_spatial_conv"] for index in (0, 4, 5, 11)] == [16, 32, 64, 64]
    assert filters["block4_from2_reduce_conv"] == 4
    assert filters["block12_from5_reduce_conv"] == 16
    assert {filters[f"p{level}_out_conv"] for level in range(3, 8)} == {64}
    assert model.network.get_layer("class_net_conv4").filters == 64


def test_flags_that_do_not_belong_together_are_refused(capsys):
    for flags, words in (
        (["--demo", "--data-dir", "d"], "draws its own data"),
        (["--method", "evolve", "--permuted-only"], "is the controller's"),
        (["--hold-out", "0.9"], "a share from 0 to 0.5"),
    ):
        with pytest.raises(SystemExit):
            read_settings(*flags)
        assert words in capsys.readouterr().err


@pytest.mark.slow
def test_the_demo_evaluates_graphs_by_their_proxies(run_recipe, capsys):
    flags = ["--demo", "--rounds", "2", "--batch", "1", "--epochs", "1"]
    folder = run_recipe("search_spinenet", *flags)
    scores = [json.loads(line)["score"] for line in read_graphs(folder)]
    assert len(scores) == 2 and all(0 <= score <= 1 for score in scores)
    capsys.readouterr()
    run_recipe("search_spinenet", *flags, "--resume")
    assert [json.loads(line)["score"] for line in read_graphs(folder)] == scores
    assert "best of 2 graphs" in capsys.readouterr().out
