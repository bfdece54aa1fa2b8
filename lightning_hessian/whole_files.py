"""Files that are there as a whole or not at all, whenever the process is killed."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec

DRAFT = ".part"


def write_whole(path: Path, content: bytes) -> None:
    """Write a draft beside the target and rename it: the old file stays, or the new one is there.

    Raises:
        OSError: If it cannot be written; nothing is left behind.
    """
    draft = path.with_name(f".{path.name}{DRAFT}")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def write_anywhere(path: str, content: bytes) -> None:
    """The same at a path or an address; an object store shows an object when all of it is there.

    Raises:
        OSError: If it cannot be written.
    """
    if "://" in path:
        with fsspec.open(path, "wb") as file:
            file.write(content)
    else:
        write_whole(Path(path), content)


def remove_drafts(folder: str | os.PathLike[str], ending: str) -> None:
    """Remove what a kill has left of :func:`write_whole` in a folder, of files of this ending."""
    if not os.path.isdir(folder):
        return
    for path in Path(folder).iterdir():
        is_draft = path.name.startswith(".") and path.name.endswith(ending + DRAFT)
        if is_draft and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)
