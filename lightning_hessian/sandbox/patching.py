"""Attributes of other people's objects, replaced for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def replaced_attributes(owner: object, **values: object) -> Iterator[None]:
    """Give attributes other values; what the owner itself did not have goes again at the end."""
    own = vars(owner)
    before = {name: own[name] for name in values if name in own}
    try:
        for name, value in values.items():
            setattr(owner, name, value)
        yield
    finally:
        for name in values:
            if name in before:
                setattr(owner, name, before[name])
            else:
                vars(owner).pop(name, None)
