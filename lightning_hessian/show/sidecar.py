"""The report beside a checkpoint: a JSON file that a person can read, and other programs."""

from __future__ import annotations

import json
import math
import os
from typing import Any

import fsspec

from lightning_hessian.records import Report
from lightning_hessian.whole_files import write_anywhere

FORMAT_VERSION = 2
"""Reports are nested, and notes have codes, from version 2 on."""

LARGEST_FILE = 256 * 2**20
DEEPEST = 16
"""Lists and records within each other; twice what reports have."""

_WRITTEN_BY = {1: "one before 0.1.0"}


def sidecar_ending(name: str) -> str:
    """What a report's file name has beyond the checkpoint's.

    Args:
        name: Of the callback; its slashes, which group tags, are no folders here.

    Returns:
        ``.<name>.json``.
    """
    return f".{name.replace('/', '.')}.json"


def sidecar_path(ckpt_path: str | os.PathLike[str], name: str) -> str:
    """Where the report of a checkpoint stands: ``<checkpoint>.<name>.json``.

    Args:
        ckpt_path: Of the checkpoint, a file or a folder.
        name: Of the callback.

    Returns:
        The path or address.
    """
    return os.fspath(ckpt_path).rstrip("/") + sidecar_ending(name)


def write_sidecar(report: Report, ckpt_path: str | os.PathLike[str], *, name: str) -> str:
    """Write a report beside its checkpoint, whole or not at all.

    The file holds the report's fields, ``ckpt_path`` being the file it stands beside, and
    ``format_version``. What JSON has no number for is null (``nan``) or a text (``"inf"``).

    Args:
        report: Of the weights in the checkpoint.
        ckpt_path: Of the checkpoint.
        name: Of the callback.

    Returns:
        The path of the JSON file.

    Raises:
        OSError: If the file cannot be written; nothing is left behind.
    """
    path = sidecar_path(ckpt_path, name)
    values = {
        "format_version": FORMAT_VERSION,
        **report.to_dict(),
        "ckpt_path": os.fspath(ckpt_path),
    }
    write_anywhere(path, as_json(values))
    return path


def as_json(values: dict[str, Any]) -> bytes:
    """The text of a file: what JSON has no number for is null (``nan``) or a text (``"inf"``).

    Args:
        values: Primitives.

    Returns:
        In UTF-8.
    """
    return (json.dumps(_finite(values), indent=1, allow_nan=False) + "\n").encode()


def read_sidecar(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what :func:`write_sidecar` wrote; give it to ``from_dict`` of the report's class.

    Args:
        path: Of the JSON file.

    Returns:
        By field name.

    Raises:
        ValueError: If the file is no report, too large or too deep for one, or of another version.
    """
    name = os.fspath(path)
    values = _parsed(name)
    if not isinstance(values, dict) or "format_version" not in values:
        raise ValueError(
            f"`path` must be a report beside a checkpoint, but {name} has no "
            "'format_version'. Give the file that ends in the callback's name, such as "
            "`.hessian.json`."
        )
    version = values["format_version"]
    if type(version) is not int:
        raise ValueError(
            f"{name} must hold a whole number as its 'format_version', and has something of type "
            f"{type(version).__name__}. Measure the checkpoint again by `analyze`."
        )
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{name} holds a report in format version {version}, which another "
            f"lightning_hessian wrote ({_WRITTEN_BY.get(version, 'a later one')}); this one reads "
            f"version {FORMAT_VERSION}. Read it with that one, or measure the checkpoint again by "
            "`analyze`."
        )
    return values


def _parsed(name: str) -> Any:
    """What a JSON file holds, if it may be a report."""
    with fsspec.open(name, "rb") as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise ValueError(
            f"`path` must be a report beside a checkpoint, but {name} has more than "
            f"{LARGEST_FILE >> 20} MiB, which no report has."
        )
    try:
        values = json.loads(content)
        _check_depth(values, DEEPEST)
    except RecursionError:
        raise ValueError(
            f"`path` must be a report beside a checkpoint, but {name} holds lists within lists "
            f"deeper than the {DEEPEST} of any report."
        ) from None
    except ValueError as error:
        raise ValueError(
            f"`path` must be a report beside a checkpoint, but {name} is no JSON: {error}."
        ) from error
    return values


def _check_depth(value: Any, depth: int) -> None:
    if depth == 0:
        raise RecursionError
    items = value.values() if isinstance(value, dict) else value
    if isinstance(value, dict | list):
        for item in items:
            _check_depth(item, depth - 1)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
