"""Writes and reads checkpoint folders; a process killed at any moment leaves a usable one.

A folder `step-00001234` holds `variables.npz`, `state.json` and `SHA256SUMS` (readable by `sha256sum -c`). It is
written to a temporary path with a leading dot, synced to the disk, and then renamed.
"""

import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_lightdet.errors import CheckpointError
from keras_lightdet.files import StrPath, file_sha256, sync, write_durably

KEPT = 2
SAVING_PREFIX = ".saving-"
_DROPPED_PREFIX = ".dropped-"
_PREFIX = "step-"
_VARIABLES = "variables.npz"
_STATE = "state.json"
_SUMS = "SHA256SUMS"


class DamagedError(CheckpointError):
    """A checkpoint folder that is incomplete or was changed after it was written."""


def list_checkpoints(directory: StrPath) -> list[Path]:
    """Returns the checkpoint folders in `directory`, newest first; none if it does not exist."""
    folders = (path for path in Path(directory).glob(f"{_PREFIX}*") if path.name[len(_PREFIX) :].isdigit())
    return sorted(folders, key=_step_of, reverse=True)


def write_checkpoint(directory: StrPath, step: int, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> Path:
    """Adds a checkpoint and then removes all but the newest two.

    Folders of later steps than `step` are removed too: they are damaged, or the run would have resumed from them.

    Args:
        directory: The folder of checkpoints, created if absent.
        step: The step of the run, which names the checkpoint.
        arrays: Arrays by name.
        state: All other values, serializable as JSON.

    Returns:
        The new folder.

    Raises:
        CheckpointError: If writing fails; earlier checkpoints stay.
    """
    directory, values = Path(directory), dict[str, Any](arrays)
    target = directory / f"{_PREFIX}{step:08d}"
    temporary = directory / f"{SAVING_PREFIX}{target.name}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(directory)
        temporary.mkdir()
        with open(temporary / _VARIABLES, "wb") as file:
            np.savez(file, **values)
        sync(temporary / _VARIABLES)
        write_durably(temporary / _STATE, json.dumps(state, indent=1))
        sums = "".join(f"{file_sha256(temporary / name)}  {name}\n" for name in (_VARIABLES, _STATE))
        write_durably(temporary / _SUMS, sums)
        sync(temporary)
        if target.exists():
            _drop(target)
        temporary.rename(target)
        sync(directory)
        _prune(directory, step)
    except OSError as error:
        raise CheckpointError(
            f"Expected to write a checkpoint to {directory}, got {error}. Free space there or choose another "
            "folder; the earlier checkpoints are still usable."
        ) from error
    return target


def read_checkpoint(folder: StrPath) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns the arrays and the state of a checkpoint folder, after checking its hashes.

    Raises:
        DamagedError: If a file is missing, differs from its recorded sha256 or cannot be parsed.
    """
    folder = Path(folder)
    try:
        lines = (folder / _SUMS).read_text().splitlines()
        sums = {name: digest for digest, name in (line.split() for line in lines)}
        for name in (_VARIABLES, _STATE):
            if file_sha256(folder / name) != sums.get(name):
                raise DamagedError(f"Expected {folder / name} to have the sha256 in its {_SUMS}, got another")
        state = json.loads((folder / _STATE).read_text())
        with np.load(folder / _VARIABLES, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}, state
    except DamagedError:
        raise
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DamagedError(f"Expected {folder} to be a complete checkpoint, got {error}") from error


def _step_of(folder: Path) -> int:
    return int(folder.name[len(_PREFIX) :])


def _prune(directory: Path, step: int) -> None:
    folders = list_checkpoints(directory)
    usable = [folder for folder in folders if _step_of(folder) <= step][:KEPT]
    for folder in folders:
        if folder not in usable:
            _drop(folder)


def _drop(folder: Path) -> None:
    # Renamed first: a process killed while the files are deleted must not leave a folder named as a checkpoint.
    renamed = folder.with_name(f"{_DROPPED_PREFIX}{folder.name}")
    folder.rename(renamed)
    shutil.rmtree(renamed)


def _remove_leftovers(directory: Path) -> None:
    for prefix in (SAVING_PREFIX, _DROPPED_PREFIX):
        for leftover in directory.glob(f"{prefix}*"):
            shutil.rmtree(leftover)
