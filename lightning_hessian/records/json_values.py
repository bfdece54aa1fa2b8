"""Records as plain Python values and back, for JSON and for a checkpoint's callback state."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from lightning_hessian.records.note import Note

JsonValue = str | int | float | bool | None | list[Any] | dict[str, Any]
Record = TypeVar("Record")


def to_primitives(record: Any) -> dict[str, JsonValue]:
    """A record's fields in plain values.

    Args:
        record: A dataclass of numbers, texts, tensors, tuples and further records.

    Returns:
        Only ``str``, ``int``, ``float``, ``bool``, ``None``, ``list`` and ``dict``.

    Raises:
        TypeError: If a field holds anything else.
    """
    return {f.name: _primitive(getattr(record, f.name)) for f in dataclasses.fields(record)}


def from_primitives(kind: type[Record], values: Mapping[str, Any]) -> Record:
    """Build a record from what :func:`to_primitives` gave, or a JSON file of it.

    Fields that ``values`` lacks keep their defaults and unknown ones are left out, so that records
    of other versions can be read.

    Args:
        kind: The dataclass.
        values: By field name; None stands for ``nan`` where the field holds floats.

    Returns:
        The record; equal numbers, tensors of float64 or bool.
    """
    hints = typing.get_type_hints(kind)
    # an empty list has lost the type of its tensor, which a default keeps
    names = [
        f.name
        for f in dataclasses.fields(kind)  # type: ignore[arg-type]
        if f.name in values and (values[f.name] != [] or f.default_factory is dataclasses.MISSING)
    ]
    return kind(**{name: _parsed(values[name], hints[name]) for name in names})


def _primitive(value: object) -> JsonValue:
    if isinstance(value, Tensor):
        listed: list[Any] = value.tolist()
        return listed
    if isinstance(value, tuple):
        return [_primitive(item) for item in value]
    if dataclasses.is_dataclass(value):
        return to_primitives(value)
    if isinstance(value, Note):
        return {"code": value.code, "text": str(value)}
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"a report holds a {type(value).__name__}, which has no primitive form.")


def _parsed(value: Any, hint: Any) -> Any:
    if hint is float:
        return float("nan") if value is None else float(value)
    if hint is Tensor:
        is_flags = bool(value) and isinstance(value[0], bool)
        return torch.tensor(_numbers(value), dtype=torch.bool if is_flags else torch.float64)
    if hint is Note:
        return Note(value["code"], value["text"]) if isinstance(value, Mapping) else value
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)[0]
        return tuple(_parsed(item, inner) for item in value)
    if value is None:
        return None
    records = [k for k in (hint, *typing.get_args(hint)) if _is_record(k)]
    return from_primitives(records[0], value) if records else value


def _numbers(value: Any) -> Any:
    """A list of numbers, also within lists, with what JSON has none for: None, and ``"inf"``."""
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    if isinstance(value, Note):
        return {"code": value.code, "text": str(value)}
    if value is None or isinstance(value, str):
        return float(value or "nan")
    return value


def _is_record(kind: object) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)
