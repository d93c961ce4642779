"""Train a model with one of the recipes.

    lightdet train rsanet_voc --demo
    lightdet train rsanet_voc --data-dir my_data --output-dir out --export
    lightdet train rsanet_voc --help
    lightdet train my_recipe.py --data-dir my_data

`lightdet train NAME` runs the recipe train_NAME.py, or search_spinenet.py, with the flags behind
the name. `lightdet train FILE.py` runs a recipe of your own, a file with a function `main(argv)`.
"""

import argparse
import ast
import difflib
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from keras_lightdet.cli.user_files import import_file
from keras_lightdet.errors import DataError
from keras_lightdet.files import expand_user

PACKAGE = "keras_lightdet.recipes"
_PREFIXES = ("train_", "search_")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments, for the list of commands; `run` reads them itself."""
    parser.add_argument("recipe", help="name of the recipe")
    parser.add_argument("flags", nargs=argparse.REMAINDER, help="flags of the recipe")


def run(arguments: Sequence[str]) -> int:
    """Runs a recipe.

    Args:
        arguments: The name of the recipe and its flags; or `--help`.

    Returns:
        The exit code.
    """
    recipes = find_recipes()
    if not arguments or arguments[0].startswith("-"):
        asked_for_help = arguments[:1] in (["-h"], ["--help"])
        print(_help(recipes), file=sys.stdout if asked_for_help else sys.stderr)
        return 0 if asked_for_help else 2
    path = expand_user(arguments[0])
    if path.suffix == ".py" and path.is_file():
        return _run_main(import_file(path), path.name, arguments[1:])
    name = path.name.removesuffix(".py").removeprefix("train_").replace("-", "_")
    if name not in recipes:
        matches = difflib.get_close_matches(name, recipes, cutoff=0.4) or list(recipes)[:3]
        print(
            f"error: Expected a recipe, got {arguments[0]!r}. Did you mean {' or '.join(matches)}? "
            "`lightdet train --help` lists all.",
            file=sys.stderr,
        )
        return 2
    return _run_main(importlib.import_module(f"{PACKAGE}.{recipes[name].stem}"), name, arguments[1:])


def _run_main(recipe: ModuleType, name: str, flags: Sequence[str]) -> int:
    """Calls the recipe's `main`; usage messages have the command that was typed."""
    if not hasattr(recipe, "main"):
        raise DataError(f"Expected a function main(argv) in the recipe {name}, got none. Define it.")
    program, sys.argv[0] = sys.argv[0], f"lightdet train {name}"
    try:
        return recipe.main(list(flags)) or 0
    finally:
        sys.argv[0] = program


def find_recipes() -> dict[str, Path]:
    """Returns the files of the recipes by the name that `lightdet train` takes.

    Raises:
        DataError: The recipes are not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    files = [file for folder in folders for file in folder.glob("*.py") if file.name.startswith(_PREFIXES)]
    if not files:
        raise DataError(f"Expected recipes in the package {PACKAGE}, got none. Install keras-lightdet with pip.")
    return dict(sorted((file.stem.removeprefix("train_"), file) for file in files))


def _help(recipes: dict[str, Path]) -> str:
    width = max(map(len, recipes))
    lines = [f"  {name:{width}}  {_summary(path)}" for name, path in recipes.items()]
    usage = "usage: lightdet train recipe [flags of the recipe]"
    return "\n".join([usage, "", (__doc__ or "").strip(), "", "recipes:", *lines])


def _summary(path: Path) -> str:
    """Returns the first line of a recipe's docstring, without importing the recipe."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    return (docstring or "").partition("\n")[0]
