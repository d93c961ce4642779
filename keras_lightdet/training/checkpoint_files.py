"""Writes and reads checkpoint folders so that a kill at any moment leaves a usable one.

A folder `step-00001234` holds `variables.npz`, `state.json` and `SHA256SUMS` (readable by `sha256sum -c`). It
is written aside under a name with a leading dot, synced to the disk, and only then renamed.
"""

import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from keras_lightdet.errors import CheckpointError
from keras_lightdet.files import file_sha256, sync, write_durably

KEPT = 2
SAVING_PREFIX = ".saving-"
_DROPPED_PREFIX = ".dropped-"
_PREFIX = "step-"
_VARIABLES = "variables.npz"
_STATE = "state.json"
_SUMS = "SHA256SUMS"


class DamagedError(CheckpointError):
    """One checkpoint folder that is incomplete or changed since it was written."""


def list_checkpoints(directory: str | os.PathLike) -> list[Path]:
    """Returns the checkpoint folders in `directory`, newest first; none if it does not exist."""
    found = (path for path in Path(directory).glob(f"{_PREFIX}*") if path.name[len(_PREFIX) :].isdigit())
    return sorted(found, key=_step_of, reverse=True)


def write_checkpoint(directory: str | os.PathLike, step: int, arrays: Mapping[str, np.ndarray], state: dict) -> Path:
    """Adds a checkpoint and then removes all but the newest two.

    Folders of later steps than `step` go as well: they are damaged, or the run would have gone on from them.

    Args:
        directory: The folder of checkpoints, made where absent.
        step: The run's step, which names the checkpoint.
        arrays: Arrays by name.
        state: What else belongs to it, fit for JSON.

    Returns:
        The new folder.

    Raises:
        CheckpointError: If the disk refuses; checkpoints that were there before stay.
    """
    directory = Path(directory)
    target = directory / f"{_PREFIX}{step:08d}"
    aside = directory / f"{SAVING_PREFIX}{target.name}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(directory)
        aside.mkdir()
        with open(aside / _VARIABLES, "wb") as file:
            np.savez(file, **arrays)
        sync(aside / _VARIABLES)
        write_durably(aside / _STATE, json.dumps(state, indent=1))
        write_durably(aside / _SUMS, "".join(f"{file_sha256(aside / n)}  {n}\n" for n in (_VARIABLES, _STATE)))
        sync(aside)
        if target.exists():
            _drop(target)
        aside.rename(target)
        sync(directory)
        _prune(directory, step)
    except OSError as error:
        raise CheckpointError(
            f"Expected to write a checkpoint to {directory}, got {error}. Free space there or choose another "
            "folder; what was saved before is still usable."
        ) from error
    return target


def read_checkpoint(folder: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict]:
    """Returns the arrays and the state of one checkpoint folder, after checking its sums.

    Raises:
        DamagedError: If a file is missing, differs from its recorded sha256 or cannot be parsed.
    """
    folder = Path(folder)
    try:
        sums = dict(reversed(line.split()) for line in (folder / _SUMS).read_text().splitlines())
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
    # Renamed first: a kill while its files go must not leave something that looks like a checkpoint.
    doomed = folder.with_name(f"{_DROPPED_PREFIX}{folder.name}")
    folder.rename(doomed)
    shutil.rmtree(doomed)


def _remove_leftovers(directory: Path) -> None:
    for prefix in (SAVING_PREFIX, _DROPPED_PREFIX):
        for leftover in directory.glob(f"{prefix}*"):
            shutil.rmtree(leftover)
