"""The declarations of a kind of record, read back."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from lightning_hessian.records.output import KEY, Derived, Shown


class Declared(NamedTuple):
    """A field or derived property, and what is said of it.

    ``record`` is the kind of record it holds, or None; ``is_several`` tells whether a tuple of
    such.
    """

    name: str
    shown: Shown
    record: type | None
    is_several: bool


def declared(kind: type) -> tuple[Declared, ...]:
    """What a kind of record declares: its own fields, then its properties, then its bases'."""
    return _declared(kind)


@cache
def _declared(kind: type) -> tuple[Declared, ...]:
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    found: dict[str, Declared] = {}
    for base in kind.__mro__:
        for name in vars(base).get("__annotations__", {}):
            if name in fields and name not in found and KEY in fields[name].metadata:
                held = _held(hints[name])
                found[name] = Declared(name, fields[name].metadata[KEY], *held)
        for name, value in vars(base).items():
            if isinstance(value, Derived) and name not in found:
                held = _held(typing.get_type_hints(value.compute)["return"])
                found[name] = Declared(name, value.declaration, *held)
    return tuple(found.values())


def _held(hint: Any) -> tuple[type | None, bool]:
    """The record within a type such as ``X | None`` or ``tuple[X, ...]``, if there is one."""
    for part in _parts(hint):
        if isinstance(part, type) and dataclasses.is_dataclass(part):
            return part, typing.get_origin(hint) is tuple
    return None, False


def _parts(hint: Any) -> Iterator[Any]:
    yield hint
    yield from typing.get_args(hint)
