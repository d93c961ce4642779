"""A recipe is one file that can be copied: it imports nothing of its neighbors."""

import re
import sys

import pytest
from source_tree import imports, parse, python_files

RECIPES = python_files("recipes")
ALLOWED = {"keras", "keras_lightdet"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_imports_only_keras_and_this_package(path):
    packages = {module.split(".")[0] for module, _ in imports(parse(path))}
    assert packages - ALLOWED - set(sys.stdlib_module_names) == set()


@pytest.mark.parametrize("path", [p for p in RECIPES if p.stem.startswith("train_")], ids=lambda path: path.stem)
def test_training_recipe_has_50_to_90_lines_and_says_how_to_run_it(path):
    text = path.read_text(encoding="utf-8")
    assert 50 <= len(text.splitlines()) <= 90
    doc = text.split('"""')[1]
    assert f"python recipes/{path.name}" in doc
    assert f"lightdet train {path.stem.removeprefix('train_')}" in doc
    assert re.search(r"\b(hours?|h|minutes|min)\b", doc), "the docstring states the duration and the hardware"
