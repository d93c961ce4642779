"""Files that a kill at any moment leaves whole: written aside, synced to the disk, then renamed."""

import hashlib
import os
from pathlib import Path


def file_sha256(path: Path) -> str:
    """Returns the hex digest of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    if os.name != "posix" and path.is_dir():  # Windows opens no folders; its renames are in the journal.
        return
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_durably(path: Path, content: str | bytes) -> None:
    """Writes a file, text as UTF-8, through to the disk."""
    with open(path, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())


def atomic_write(path: str | os.PathLike, content: str | bytes) -> None:
    """Replaces a file in one step, so that a reader or a kill never meets half of it."""
    path = Path(path)
    aside = path.with_name(f".{path.name}.saving")
    write_durably(aside, content)
    os.replace(aside, path)
    sync(path.parent)
