"""Finds the real data that some tests use."""

import os
from pathlib import Path

import pytest


def shared_data(name: str) -> Path:
    """Returns the folder of a real data set, or skips the test where it is absent."""
    root = os.environ.get("LIGHTDET_SHARED_DATA")
    folder = (Path(root) if root else Path(__file__).parents[3] / "shared" / "data") / name
    if not folder.is_dir():
        pytest.skip(f"real data {name!r} is absent: set LIGHTDET_SHARED_DATA to the folder that holds it")
    return folder
