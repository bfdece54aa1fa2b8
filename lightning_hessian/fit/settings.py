"""Options as a text that is the same in every process: by values and qualified names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any


def settings_text(value: Any) -> str:
    """Tell a value so that equal options give equal texts, in whichever process.

    A ``repr`` would show the memory address of a function or a loader.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        told = (f"{f.name}={settings_text(getattr(value, f.name))}" for f in fields)
        return f"{_name_of(type(value))}({', '.join(told)})"
    if value is None or isinstance(value, str | int | float | bool | complex):
        return repr(value)
    if isinstance(value, Mapping):
        told = (f"{settings_text(key)}: {settings_text(item)}" for key, item in value.items())
        return f"{{{', '.join(told)}}}"
    if type(value) in (list, tuple, set, frozenset):
        items = [settings_text(item) for item in value]
        return f"[{', '.join(items if isinstance(value, list | tuple) else sorted(items))}]"
    if isinstance(value, partial):
        parts = (value.func, list(value.args), value.keywords)
        return f"partial({', '.join(map(settings_text, parts))})"
    if hasattr(value, "dataset") and hasattr(value, "batch_size"):
        data = value.dataset
        length = len(data) if hasattr(data, "__len__") else "no length"
        return f"{_name_of(type(value))}({_name_of(type(data))} of {length}, {value.batch_size})"
    # a function, a class or a bound method has a name; of any other object that of its class tells
    return _name_of(value if hasattr(value, "__qualname__") else type(value))


def _name_of(thing: Any) -> str:
    return f"{getattr(thing, '__module__', '')}.{thing.__qualname__}"
