"""Files that stay valid when the process is killed: written to a temporary path, synced to the disk, then renamed."""

import hashlib
import os
from pathlib import Path
from typing import TypeAlias

StrPath: TypeAlias = str | os.PathLike[str]


def expand_user(path: StrPath) -> Path:
    """Returns the path with a leading `~` replaced by the home folder, where that is known."""
    return Path(os.path.expanduser(path))


def file_sha256(path: Path) -> str:
    """Returns the hex digest of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Blocks until a file, or the entries of a folder, are on the disk."""
    if os.name != "posix" and path.is_dir():  # Windows cannot open a folder; its renames are journaled.
        return
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_durably(path: Path, content: str | bytes) -> None:
    """Writes a file, text as UTF-8, and syncs it to the disk."""
    with open(path, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())


def atomic_write(path: StrPath, content: str | bytes) -> None:
    """Replaces a file in one step: a reader never sees a partial file, and a killed process never leaves one."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.saving")
    write_durably(temporary, content)
    os.replace(temporary, path)
    sync(path.parent)
