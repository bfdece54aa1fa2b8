"""Records read from plain values: each field by its type, with what does not fit named."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor

from lightning_hessian.records.note import Note

Record = TypeVar("Record")
Read = Callable[[Any, bool], Any]
"""From a plain value, and whether records in it must have all their fields, to a field's value."""
MOST_DIMENSIONS = 3
LARGEST_WHOLE = 2**63
BY_NAME = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
"""Numbers that JSON has none for; None stands for ``nan``, too."""


class MisfitError(ValueError):
    """A value is not what the field is for; ``place`` says where, from the outermost on."""

    def __init__(self, rule: str, value: object) -> None:
        super().__init__(rule)
        self.place: list[str] = []
        self._rule = rule
        self._shown = _shown(value)

    def __str__(self) -> str:
        name = "".join(self.place).lstrip(".") or "values"
        return f"`{name}` must be {self._rule}, got {self._shown}."


def read_record(kind: type[Record], values: Any, *, is_whole: bool) -> Record:
    """Build a record from plain values, or say what in them is of the wrong kind.

    Args:
        kind: The dataclass.
        values: By field name.
        is_whole: Whether exactly the record's fields are wanted, here and in all records within.

    Returns:
        The record, its tensors of float64 or bool.

    Raises:
        MisfitError: If a value is not what its field is for.
    """
    if not isinstance(values, Mapping):
        raise MisfitError(f"the fields of a {kind.__name__}", values)
    class_: type = kind
    fields = _fields(class_)
    if is_whole and values.keys() != fields.keys():
        odd = ", ".join(sorted(map(_shown, values.keys() ^ fields.keys()))[:3])
        raise MisfitError(
            f"all fields of a {kind.__name__} and no others; it differs in {odd}", values
        )
    given: dict[str, Any] = {}
    for name, (read, has_default_tensor, is_required) in fields.items():
        if name not in values:
            if is_required:
                raise MisfitError(f"a {kind.__name__}, which has a field {name!r}", values)
        # an empty list has lost the type of its tensor, which a default keeps
        elif not (has_default_tensor and values[name] == []):
            given[name] = _within(f".{name}", read, values[name], is_whole)
    return kind(**given)


@cache
def _fields(kind: Any) -> dict[str, tuple[Read, bool, bool]]:
    """How each field is read, whether an empty list is its default, and whether it has none."""
    hints = typing.get_type_hints(kind)
    missing = dataclasses.MISSING
    return {
        f.name: (
            _reader(hints[f.name]),
            hints[f.name] is Tensor and f.default_factory is not missing,
            f.default is missing and f.default_factory is missing,
        )
        for f in dataclasses.fields(kind)
    }


def _reader(hint: Any) -> Read:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return _one_of(inner)
    if origin is tuple:
        return _tuple_of(_reader(inner[0]), None if inner[1] is ... else len(inner))
    if origin in (types.UnionType, typing.Union):
        (some,) = (_reader(each) for each in inner if each is not types.NoneType)
        return lambda value, is_whole: None if value is None else some(value, is_whole)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return lambda value, is_whole: read_record(hint, value, is_whole=is_whole)
    return PLAIN[hint]


def _within(place: str, read: Read, value: Any, is_whole: bool) -> Any:
    try:
        return read(value, is_whole)
    except MisfitError as error:
        error.place.insert(0, place)
        raise


def _one_of(words: tuple[str, ...]) -> Read:
    def read(value: Any, _: bool) -> str:
        if type(value) is not str or value not in words:
            raise MisfitError(f"one of {', '.join(map(repr, words))}", value)
        return value

    return read


def _tuple_of(read: Read, length: int | None) -> Read:
    def read_all(value: Any, is_whole: bool) -> tuple[Any, ...]:
        if not isinstance(value, list) or length not in (None, len(value)):
            raise MisfitError(f"a list{'' if length is None else f' of {length}'}", value)
        return tuple(_within(f"[{i}]", read, item, is_whole) for i, item in enumerate(value))

    return read_all


def _number(value: Any, _: bool = False) -> float:
    if type(value) is float:
        return value
    if value is None:
        return math.nan
    if type(value) is int and abs(value) < LARGEST_WHOLE:
        return float(value)
    if type(value) is str and value in BY_NAME:
        return BY_NAME[value]
    raise MisfitError("a number", value)


def _whole_number(value: Any, _: bool) -> int:
    if type(value) is not int or abs(value) >= LARGEST_WHOLE:
        raise MisfitError("a whole number of 64 bits", value)
    return value


def _flag(value: Any, _: bool) -> bool:
    if type(value) is not bool:
        raise MisfitError("true or false", value)
    return value


def _text(value: Any, _: bool) -> str:
    if type(value) is not str:
        raise MisfitError("a text", value)
    return value


def _note(value: Any, _: bool) -> Note:
    if not isinstance(value, Mapping) or value.keys() != {"code", "text"}:
        raise MisfitError("a note of 'code' and 'text'", value)
    return Note(_text(value["code"], False), _text(value["text"], False))


def _tensor(value: Any, _: bool) -> Tensor:
    if not isinstance(value, list):
        raise MisfitError("a list of numbers", value)
    first: Any = value
    shape: list[int] = []
    while isinstance(first, list) and len(shape) < MOST_DIMENSIONS:
        shape.append(len(first))
        first = first[0] if first else None
    is_flags = type(first) is bool
    items = _items(value, _flag if is_flags else _number, shape)
    return torch.tensor(items, dtype=torch.bool if is_flags else torch.float64)


def _items(value: Any, read: Read, shape: list[int]) -> Any:
    if not shape:
        return read(value, False)
    if not isinstance(value, list) or len(value) != shape[0]:
        raise MisfitError("lists of numbers, of one length each", value)
    return [_items(item, read, shape[1:]) for item in value]


PLAIN: dict[Any, Read] = {
    float: _number,
    int: _whole_number,
    bool: _flag,
    str: _text,
    Note: _note,
    Tensor: _tensor,
}


def _shown(value: object) -> str:
    """A value as an error text has it: short, whatever it holds."""
    if value is None or type(value) in (bool, float):
        return repr(value)
    if type(value) is str:
        return repr(value if len(value) <= 40 else f"{value[:37]}...")
    if type(value) is int and abs(value) < LARGEST_WHOLE:
        return repr(value)
    return f"something of type {type(value).__name__}"
