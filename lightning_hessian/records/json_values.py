"""Records as plain Python values, for JSON and for a checkpoint's callback state."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor

from lightning_hessian.records.note import Note

JsonValue = str | int | float | bool | None | list[Any] | dict[str, Any]


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
    if value is None:
        return None
    for plain in (bool, int, float, str):
        # a subclass, as numpy's of float, would be one in the checkpoint too
        if isinstance(value, plain):
            return plain(value)
    raise TypeError(f"a report holds a {type(value).__name__}, which has no primitive form.")
