"""Recipes as modules, loaded by their path as a user's copy would be."""

import importlib.util
from pathlib import Path
from types import ModuleType

RECIPES = Path(__file__).parents[2] / "recipes"
NAMES = sorted(path.stem for path in RECIPES.glob("*.py") if path.stem.startswith(("train_", "search_")))


def load_recipe(name: str) -> ModuleType:
    """Imports a recipe under a name of its own, anew at each call."""
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", RECIPES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
