"""`lightdet train`: recipes by name, with their own flags."""

import sys

import pytest

from keras_lightdet.cli import train

RECIPE = '''"""{summary}

More text.
"""

import sys


def main(argv):
    print("{name}", argv, sys.argv[0])
    return {code}
'''


@pytest.fixture
def recipes(monkeypatch, tmp_path):
    """A package of two recipes, a helper module and a script that is no recipe."""
    folder = tmp_path / "fake_recipes"
    folder.mkdir()
    for name, code in (("train_rsanet_voc", None), ("search_spinenet", 3), ("shared", 0)):
        (folder / f"{name}.py").write_text(RECIPE.format(name=name, summary=f"Summary of {name}.", code=code))
    monkeypatch.setattr(train, "PACKAGE", "fake_recipes")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.startswith("fake_recipes")]:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["rsanet_voc", "rsanet-voc", "train_rsanet_voc", "train_rsanet_voc.py"])
def test_a_recipe_gets_its_flags(run, recipes, name):
    program = sys.argv[0]
    assert run("train", name, "--demo", "--help") == (
        "train_rsanet_voc ['--demo', '--help'] lightdet train rsanet_voc\n"
    )
    assert sys.argv[0] == program


def test_the_exit_code_is_that_of_the_recipe(run, recipes):
    run("train", "search_spinenet", code=3)


def test_help_lists_the_recipes_with_their_summaries(run, recipes):
    text = run("train", "--help")
    assert "  rsanet_voc       Summary of train_rsanet_voc.\n" in text
    assert "  search_spinenet  Summary of search_spinenet.\n" in text
    assert "shared" not in text
    assert run("train", code=2).startswith("usage: lightdet train")


def test_an_unknown_recipe_lists_close_matches(run, recipes):
    text = run("train", "rsanet_coco", code=2)
    assert "got 'rsanet_coco'. Did you mean rsanet_voc?" in text


def test_missing_recipes_are_an_error(run, monkeypatch):
    monkeypatch.setattr(train, "PACKAGE", "keras_lightdet.no_recipes")
    assert "Install keras-lightdet" in run("train", "rsanet_voc", code=1)


def test_all_recipes_of_the_package_have_a_summary():
    recipes = train.find_recipes()
    assert {"rsanet_voc", "search_spinenet", "backbone_imagenet"} <= set(recipes)
    for path in recipes.values():
        assert train._summary(path).endswith("."), path


def test_a_file_is_run_as_a_recipe(run, recipes, tmp_path):
    path = tmp_path / "train_rsanet_voc.py"
    path.write_text(RECIPE.format(name="mine", summary="A copy.", code=None))
    assert run("train", str(path), "--demo") == "mine ['--demo'] lightdet train train_rsanet_voc.py\n"


def test_a_recipe_without_main_is_an_error(run, tmp_path):
    path = tmp_path / "empty.py"
    path.write_text("")
    assert "Expected a function main(argv) in the recipe empty.py" in run("train", str(path), code=1)


def test_a_missing_file_is_no_recipe(run, recipes, tmp_path):
    assert "Expected a recipe" in run("train", str(tmp_path / "missing.py"), code=2)
