"""Checkpoints on the disk: which there are, and what they hold."""

from __future__ import annotations

import glob
import operator
import os
import pickle
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import fsspec
import torch
from lightning.pytorch.utilities.migration.utils import migrate_checkpoint

from lightning_hessian.analysis.precautions import check_content, check_file, is_sharded
from lightning_hessian.errors import UnreadableCheckpointError

MAX_REASON = 160
VERSION = "pytorch-lightning_version"
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def find_checkpoints(checkpoints: Paths) -> list[str]:
    """The files that are meant, each once.

    Args:
        checkpoints: A file; a folder, for every ``*.ckpt`` in it and below; a pattern such as
            ``"runs/*/last.ckpt"``; an address such as ``s3://...`` of a file; or several of these.

    Returns:
        Their paths, sorted within a folder or pattern. What does not exist is left as it is given.

    Raises:
        ValueError: If nothing is given.
    """
    given = [checkpoints] if isinstance(checkpoints, str | os.PathLike) else list(checkpoints)
    if not given:
        raise ValueError(
            "`checkpoints` must name at least one file, folder or pattern, got an empty list."
        )
    return list(dict.fromkeys(path for each in given for path in _expand(os.fspath(each))))


def read_checkpoint(path: str, *, weights_only: bool, only_survey: bool = False) -> dict[str, Any]:
    """Read a Lightning checkpoint onto the CPU, brought to the present version's form.

    Args:
        path: Of the file.
        weights_only: Refuse objects other than tensors and primitives, whose unpickling runs code.
        only_survey: Leave the tensors' elements on the disk; they are not to be read.

    Returns:
        The checkpoint.

    Raises:
        UnreadableCheckpointError: If the file is missing, no regular one, too large, damaged, or no
            Lightning checkpoint; whatever else goes wrong in reading it is told as this.
    """
    try:
        if "://" not in path:
            check_file(path)
        content = _load(path, weights_only, only_survey)
        check_content(content)
    except UnreadableCheckpointError:
        raise
    except Exception as error:
        raise UnreadableCheckpointError(_reason(path, error)) from error
    return _migrated(content)


def brief(error: BaseException) -> str:
    """An exception on one line of bounded length.

    Args:
        error: Any.

    Returns:
        Its type and text.
    """
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return text if len(text) <= MAX_REASON else f"{text[:MAX_REASON]} ..."


def _expand(path: str) -> Iterator[str]:
    if "://" in path:
        yield path
    elif os.path.isdir(path) and not is_sharded(path):
        found = sorted(str(each) for each in Path(path).rglob("*.ckpt"))
        yield from [each for each in found if not _holds_some(each, found)] or [path]
    elif os.path.lexists(path):
        yield path
    else:
        yield from sorted(glob.glob(path, recursive=True)) or [path]


def _holds_some(folder: str, found: list[str]) -> bool:
    """Whether it is a mere folder of checkpoints, whatever its name."""
    is_mere = os.path.isdir(folder) and not is_sharded(folder)
    return is_mere and any(each.startswith(folder + os.sep) for each in found)


def _load(path: str, weights_only: bool, only_survey: bool) -> Any:
    if "://" in path:
        with fsspec.open(path, "rb") as file:
            return torch.load(file, map_location="cpu", weights_only=weights_only)
    # memory is mapped only for a survey, which reads no elements: reading those of a file that a
    # running fit overwrites in the meantime would end this process
    mapped = only_survey and zipfile.is_zipfile(path)
    return torch.load(path, map_location="cpu", weights_only=weights_only, mmap=mapped)


def _migrated(content: Any) -> dict[str, Any]:
    """Of the present version, with whole numbers for its epoch and step."""
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), Mapping):
        raise UnreadableCheckpointError(
            f"it holds a {type(content).__name__} without a 'state_dict', so it is no checkpoint "
            "that a Lightning Trainer saved"
        )
    missing = {"epoch", "global_step", VERSION} - content.keys()
    if missing:
        raise UnreadableCheckpointError(
            f"it lacks {', '.join(sorted(missing))}, so it is no checkpoint that a Lightning "
            "Trainer saved"
        )
    try:
        migrated: dict[str, Any] = migrate_checkpoint(content)[0]
    except Exception as error:
        raise UnreadableCheckpointError(
            f"it is of version {content[VERSION]!r:.40} of Lightning, from which this Lightning "
            f"cannot bring it to its own ({brief(error)})"
        ) from error
    return migrated | {name: _count(migrated[name], name) for name in ("epoch", "global_step")}


def _count(value: Any, name: str) -> int:
    try:
        count = operator.index(value)
    except TypeError:
        count = -1
    if not 0 <= count < 2**63:
        raise UnreadableCheckpointError(
            f"its '{name}' must be a whole number of at least 0, got {value!r:.40}"
        )
    return count


def _reason(path: str, error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError) and zipfile.is_zipfile(path):
        names = _names_of_code(path)
        if names:
            return (
                f"it holds objects other than tensors and primitives ({', '.join(sorted(names))}), "
                "and to unpickle them is to run code. If you trust the file, give "
                "`weights_only=False`"
            )
    if isinstance(error, OSError):
        return f"it cannot be read ({brief(error)})"
    return f"it is damaged, cut short, or no checkpoint ({brief(error)})"


def _names_of_code(path: str) -> list[str]:
    """What a file would have imported, as far as it can be read."""
    try:
        return torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:
        # the file is refused either way, and for an error that is being told
        return []
