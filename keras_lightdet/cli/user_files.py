"""Python files of users: recipes, and builders that are not part of the package."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from keras_lightdet.errors import DataError


def import_file(path: Path) -> ModuleType:
    """Imports a Python file as a module of its own name.

    Raises:
        DataError: There is no such file.
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise DataError(f"Expected a Python file at {str(path)!r}, got none. Correct the path.")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)  # dataclasses of the file look their module up there
    spec.loader.exec_module(module)
    return module
