"""The search for a SpineNet as a command: what a kill costs, what it leaves, and what its proxies are."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_lightdet.backbones import SpineNet
from keras_lightdet.backbones.scale_permuted import Block, check_blocks
from keras_lightdet.backbones.spinenet import SPINENET
from keras_lightdet.backbones.spinenet_search import KINDS
from keras_lightdet.data import draw_scenes, load_data

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture
def recipe(monkeypatch):
    """The recipe's functions; what `make_reproducible` sets for the process is taken back."""
    monkeypatch.syspath_prepend(str(RECIPES))
    yield runpy.run_path(str(RECIPES / "search_spinenet.py"))
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})


class Counted:
    """Likeness to SpineNet-49, and how many graphs were asked for; the process dies at one of them."""

    def __init__(self, dies_at=None):
        self.dies_at, self.asked = dies_at, 0

    def __call__(self, blocks):
        self.asked += 1
        if self.asked == self.dies_at:
            raise KeyboardInterrupt
        return sum((a.level == b.level) + (a.kind == b.kind) for a, b in zip(blocks, SPINENET, strict=True)) / 30


def run(recipe, folder, flags, score, *, resume=False, config=None):
    args = recipe["read_args"](["--output-dir", str(folder), *flags])
    log = recipe["GraphLog"](folder, score, config or {"flags": flags}, resume=resume)
    return recipe["search"](args, log)


@pytest.mark.parametrize("method", ["reinforce", "evolve"])
def test_a_killed_search_goes_on_to_the_same_graphs(method, recipe, tmp_path):
    flags = ["--method", method, "--rounds", "9", "--batch", "3", "--rate", "0.05"]
    whole = run(recipe, tmp_path / "whole", flags, Counted())
    with pytest.raises(KeyboardInterrupt):
        run(recipe, tmp_path / "killed", flags, Counted(dies_at=6))
    lines = tmp_path / "killed" / "graphs.jsonl"
    with lines.open("a") as file:
        file.write('{"round": 6, "score": 0.')  # killed while it wrote
    rest = Counted()
    assert run(recipe, tmp_path / "killed", flags, rest, resume=True) == whole
    assert rest.asked == 9 - 5
    ours, theirs = ((tmp_path / name / "graphs.jsonl").read_text().splitlines() for name in ("killed", "whole"))
    assert len(ours) == 1 + 9
    fields = ("round", "score", "blocks")
    assert [[json.loads(a)[key] for key in fields] for a in ours[1:]] == [
        [json.loads(b)[key] for key in fields] for b in theirs[1:]
    ]
    again = Counted()
    assert run(recipe, tmp_path / "killed", flags, again, resume=True) == whole
    assert again.asked == 0


def test_found_graph_is_the_best_and_builds(recipe, tmp_path):
    blocks, score = run(recipe, tmp_path, ["--rounds", "4", "--batch", "2"], Counted())
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["score"] == score == max(json.loads(line)["score"] for line in read_graphs(tmp_path))
    assert tuple(Block(*block[:2], tuple(block[2]), block[3]) for block in found["blocks"]) == blocks
    check_blocks(blocks, KINDS)
    pyramid = SpineNet(variant="49", blocks=found["blocks"], **recipe["PROXY"])(np.zeros((1, 64, 96, 3)))
    assert {level: tuple(x.shape[1:]) for level, x in pyramid.items()} == {
        f"P{level}": (-(-64 // 2**level), -(-96 // 2**level), 64) for level in range(3, 8)
    }


def read_graphs(folder):
    return (folder / "graphs.jsonl").read_text().splitlines()[1:]


def test_scores_of_another_search_are_refused(recipe, tmp_path):
    flags = ["--rounds", "2", "--batch", "2"]
    run(recipe, tmp_path, flags, Counted())
    with pytest.raises(SystemExit, match="--resume"):
        run(recipe, tmp_path, flags, Counted())
    with pytest.raises(SystemExit, match=r"\['seed'\] differ"):
        run(recipe, tmp_path, flags, Counted(), resume=True, config={"flags": flags, "seed": 1})
    with pytest.raises(SystemExit, match="graph 1 to be that of"):
        run(recipe, tmp_path, [*flags, "--seed", "5"], Counted(), resume=True, config={"flags": flags})


def test_images_are_held_out_evenly(recipe, tmp_path):
    data = load_data(draw_scenes(tmp_path, {"trainval": 16}, seed=0), "trainval")
    trained, held_out = recipe["split"](data, 0.25)
    names = [Path(record.path).stem for record in held_out.records]
    assert names == [f"scene_{number:05d}" for number in (3, 7, 11, 15)]
    assert {record.path for record in data.records} == {r.path for part in (trained, held_out) for r in part.records}
    assert len(trained) == 12


# A quarter of SpineNet-49's widths 64, 128 and 256, and within resamplings a quarter of those again.
def test_proxies_have_a_quarter_of_the_widths(recipe):
    model = recipe["proxy"](SPINENET, ("a", "b"), 64)
    backbone = model.network.get_layer("backbone")
    filters = {layer.name: layer.filters for layer in backbone.layers if hasattr(layer, "filters")}
    assert filters["stem_conv"] == 64
    assert [filters[f"block{index}_copy1_spatial_conv"] for index in (0, 4, 5, 11)] == [16, 32, 64, 64]
    assert filters["block4_from2_reduce_conv"] == 4
    assert filters["block12_from5_reduce_conv"] == 16
    assert {filters[f"p{level}_out_conv"] for level in range(3, 8)} == {64}
    assert model.network.get_layer("class_net_conv4").filters == 64


def test_flags_that_do_not_belong_together_are_refused(recipe, capsys):
    for flags, words in (
        (["--demo", "--data-dir", "d"], "draws its own data"),
        (["--method", "evolve", "--permuted-only"], "is the controller's"),
        (["--hold-out", "0.9"], "a share from 0 to 0.5"),
    ):
        with pytest.raises(SystemExit):
            recipe["read_args"](flags)
        assert words in capsys.readouterr().err


@pytest.mark.slow
def test_the_demo_scores_graphs_by_their_proxies(recipe, tmp_path, capsys):
    flags = ["--demo", "--output-dir", str(tmp_path), "--rounds", "2", "--batch", "1", "--epochs", "1"]
    recipe["main"](recipe["read_args"](flags))
    scores = [json.loads(line)["score"] for line in read_graphs(tmp_path)]
    assert len(scores) == 2 and all(0 <= score <= 1 for score in scores)
    capsys.readouterr()
    recipe["main"](recipe["read_args"]([*flags, "--resume"]))
    assert [json.loads(line)["score"] for line in read_graphs(tmp_path)] == scores
    assert "best of 2 graphs" in capsys.readouterr().out
