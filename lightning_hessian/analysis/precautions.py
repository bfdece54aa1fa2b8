"""What is looked at before a file is read, and before what it held is walked through."""

from __future__ import annotations

import glob
import os
import stat
import zipfile
from typing import Any

import torch
from torch import Tensor

from lightning_hessian.analysis.expansion import expanded_size, items_of
from lightning_hessian.errors import UnreadableCheckpointError
from lightning_hessian.loss import host_memory

MAX_ENTRIES = 10_000_000
KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def is_sharded(path: str) -> bool:
    """Whether a folder is a checkpoint in pieces.

    Args:
        path: Of a folder.

    Returns:
        Whether it holds what such a checkpoint begins with.
    """
    return any(os.path.exists(os.path.join(path, name)) for name in (".metadata", "meta.pt"))


def check_file(path: str) -> None:
    """Refuse what is no regular file, or one that memory has no room for; nothing is opened before.

    A pipe would let the reader wait, and a device has no end.

    Args:
        path: Of a file, or of a link to one.

    Raises:
        UnreadableCheckpointError: With the reason.
    """
    if not os.path.exists(path):
        raise UnreadableCheckpointError(_why_absent(path))
    if os.path.isdir(path):
        raise UnreadableCheckpointError(
            "it is a sharded checkpoint. Make one file of it by `python -m "
            "lightning.pytorch.utilities.consolidate_checkpoint`"
            if is_sharded(path)
            else "it is a folder without a `*.ckpt` file in it or below"
        )
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        kind = KINDS.get(stat.S_IFMT(mode), "something else")
        link = f"a link to {kind}" if os.path.islink(path) else kind
        raise UnreadableCheckpointError(f"it is {link}, and only regular files are read")
    size, room = unpacked_size(path), host_memory()
    if room is not None and size > room:
        raise UnreadableCheckpointError(
            f"it takes {size / 1e9:,.1f} GB of memory, and there is room for {room / 1e9:,.1f} GB"
        )


def unpacked_size(path: str) -> int:
    """What reading a file takes, as it says itself.

    Args:
        path: Of a regular file.

    Returns:
        Bytes; of an archive those of its unpacked parts, if they are more.
    """
    size = os.path.getsize(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = max(size, sum(part.file_size for part in archive.infolist()))
    return size


def check_content(content: Any) -> None:
    """Refuse what a small file makes endless: parts within parts, elements that are repeated.

    Args:
        content: As read.

    Raises:
        UnreadableCheckpointError: With the reason.
    """
    if expanded_size(content, items_of) > MAX_ENTRIES:
        raise UnreadableCheckpointError(
            f"its parts hold each other so often that they come to more than {MAX_ENTRIES:,} "
            "entries"
        )
    repeated, room = _repeated_bytes(content, set()), host_memory()
    if room is not None and repeated > room:
        raise UnreadableCheckpointError(
            f"its tensors repeat few elements so often that they come to {repeated / 1e9:,.1f} GB, "
            f"and there is room for {room / 1e9:,.1f} GB"
        )


def _why_absent(path: str) -> str:
    if os.path.islink(path):
        return f"it is a link to {os.readlink(path)}, and there is no such file"
    if glob.has_magic(path):
        return "no file matches this pattern"
    return "there is no such file"


def _repeated_bytes(value: Any, seen: set[int]) -> int:
    """What tensors come to beyond the memory that they stand in."""
    if isinstance(value, Tensor) and value.layout == torch.strided:
        return max(0, value.numel() * value.element_size() - value.untyped_storage().nbytes())
    inner = items_of(value)
    if inner is None or id(value) in seen:
        return 0
    seen.add(id(value))
    return sum(_repeated_bytes(each, seen) for each in inner)
