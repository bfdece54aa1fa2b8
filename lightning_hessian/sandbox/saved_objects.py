"""What user code changes, one class a kind of thing: what it was, and how to put it back."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Mapping
from types import CellType, MemberDescriptorType
from typing import Any

import torch
from torch import Tensor

_ABSENT = object()


class SavedTensor:
    """One dense tensor: its storage, a copy of its bits, its flags and its gradient."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.storage = tensor.data
        self.copy = self.storage.clone()
        self.is_leaf = tensor.is_leaf
        self.requires_grad = tensor.requires_grad
        self.grad = tensor.grad if tensor.is_leaf else None

    def moved(self, delta: Tensor) -> SavedTensor:
        """The same with ``delta`` added to the bits that it puts back."""
        return self.holding(self.copy + delta)

    def holding(self, bits: Tensor) -> SavedTensor:
        """The same with other bits to put back."""
        other = SavedTensor.__new__(SavedTensor)
        other.__dict__.update(self.__dict__, copy=bits)
        return other

    def put_back_handles(self) -> None:
        """Undo ``t.data = other``, ``t.grad = other``, ``t.requires_grad_()`` and a graph on it."""
        self._put_back_storage()
        if self.is_leaf:
            self._put_back_requires_grad()
            self._put_back_grad()

    def is_unchanged(self) -> bool:
        """Whether the tensor has the memory and the bits that it had."""
        if not _same_memory(self.tensor, self.storage):
            return False
        return torch.equal(self.storage, self.copy)

    def _put_back_storage(self) -> None:
        if not _same_memory(self.tensor, self.storage):
            self.tensor.data = self.storage

    def _put_back_requires_grad(self) -> None:
        if not self.tensor.is_leaf:
            # `buffer.copy_(x)` with a differentiable x made it the head of a graph
            self.tensor.detach_()
        if self.tensor.requires_grad != self.requires_grad:
            self.tensor.requires_grad_(self.requires_grad)

    def _put_back_grad(self) -> None:
        if self.tensor.grad is not self.grad:
            self.tensor.grad = self.grad


def _same_memory(a: Tensor, b: Tensor) -> bool:
    return (
        a.data_ptr() == b.data_ptr()
        and a.shape == b.shape
        and a.stride() == b.stride()
        and a.dtype == b.dtype
    )


class SavedContainer:
    """One dict, list, set or deque: its elements by identity, in their order.

    Methods of the base types are called on purpose: ``Counter.update`` adds instead of setting, and
    a user's ``__setitem__`` may do anything.
    """

    def __init__(self, container: Any) -> None:
        self.container = container
        # an OrderedDict keeps its order beside the dict's own
        self._kind: Any = OrderedDict if isinstance(container, OrderedDict) else dict
        self.keys = list(container) if isinstance(container, dict) else None
        self.values = self._values()

    def is_unchanged(self) -> bool:
        """Whether the container holds what it held."""
        container, values = self.container, self.values
        if not values and not container:  # as most dictionaries of a module: hooks
            return True
        now = self._values()
        same = len(now) == len(values) and all(map(operator.is_, now, values))
        # keys by identity, too: `==` between tensors has no truth value
        return same and (self.keys is None or all(map(operator.is_, container, self.keys)))

    def put_back(self) -> None:
        """Make the container hold what it held."""
        if self.is_unchanged():
            return
        container, values = self.container, self.values
        if isinstance(container, list):
            list.__setitem__(container, slice(None), values)
        elif isinstance(container, dict):
            self._kind.clear(container)
            self._kind.update(container, zip(self.keys or (), values, strict=True))
        else:
            container.clear()
            (container.update if isinstance(container, set) else container.extend)(values)

    def replace(self, replacements: Mapping[int, object]) -> None:
        """Put other objects in the place of elements, also of those inside tuples; sets stay."""
        if isinstance(self.container, set):
            return
        for key, value in zip(self.keys or range(len(self.values)), self.values, strict=True):
            other = replaced(value, replacements)
            if other is not value:
                self.container[key] = other

    def _values(self) -> list[Any]:
        container = self.container
        return list(self._kind.values(container) if isinstance(container, dict) else container)


class SavedSlots:
    """The attributes of one object that live in ``__slots__``."""

    def __init__(self, thing: object) -> None:
        self._thing = thing
        self._slots = [
            slot
            for kind in type(thing).__mro__
            if "__slots__" in vars(kind)
            for slot in vars(kind).values()
            if isinstance(slot, MemberDescriptorType)
        ]
        self.values = self._values()

    def is_unchanged(self) -> bool:
        """Whether each slot holds what it held."""
        return all(map(operator.is_, self._values(), self.values))

    def put_back(self) -> None:
        """Set each slot to what it held; by its descriptor, as the object may be frozen."""
        for slot, value, now in zip(self._slots, self.values, self._values(), strict=True):
            if now is value:
                continue
            if value is _ABSENT:
                slot.__delete__(self._thing)
            else:
                slot.__set__(self._thing, value)

    def replace(self, replacements: Mapping[int, object]) -> None:
        """Put other objects in the place of attributes."""
        for slot, value in zip(self._slots, self.values, strict=True):
            other = replaced(value, replacements)
            if other is not value:
                slot.__set__(self._thing, other)

    def _values(self) -> list[Any]:
        kind = type(self._thing)
        return [
            slot.__get__(self._thing, kind) if _is_set(slot, self._thing) else _ABSENT
            for slot in self._slots
        ]


def _is_set(slot: MemberDescriptorType, thing: object) -> bool:
    try:
        slot.__get__(thing, type(thing))
    except AttributeError:
        return False
    return True


class SavedCell:
    """A variable of a closure, as of a hook that counts by ``nonlocal``."""

    def __init__(self, cell: CellType) -> None:
        self._cell = cell
        self.values = [cell.cell_contents]

    def is_unchanged(self) -> bool:
        """Whether the variable holds what it held."""
        return is_assigned(self._cell) and self._cell.cell_contents is self.values[0]

    def put_back(self) -> None:
        """Set the variable to what it held."""
        self._cell.cell_contents = self.values[0]

    def replace(self, replacements: Mapping[int, object]) -> None:
        """Put another object in the variable."""
        self._cell.cell_contents = replaced(self.values[0], replacements)


def is_assigned(cell: CellType) -> bool:
    """Whether a variable of a closure has a content, as none has before its first assignment."""
    try:
        cell.cell_contents  # noqa: B018 - reading it is the question
    except ValueError:
        return False
    return True


SavedHolder = SavedContainer | SavedSlots | SavedCell


def replaced(value: Any, replacements: Mapping[int, object]) -> Any:
    """What stands in for a value; a tuple is made anew if something in it is replaced."""
    if id(value) in replacements:
        return replacements[id(value)]
    if not isinstance(value, tuple):
        return value
    items = [replaced(item, replacements) for item in value]
    if all(map(operator.is_, items, value)):
        return value
    return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
