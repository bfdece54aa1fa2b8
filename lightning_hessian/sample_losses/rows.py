"""Cuts a collated batch into its samples, where it is certain which part belongs to which."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_hessian.data import FrozenBatch
from lightning_hessian.errors import RefusedError

_CONSTANTS = (
    *(str, bytes, bool, int, float, complex, type(None), torch.dtype, torch.device, torch.Size),
    *(np.generic, np.dtype, PurePath),
    # classes, enumerations, functions and layers are of no sample more than of another
    *(type, Enum, FunctionType, BuiltinFunctionType, MethodType, partial, torch.nn.Module),
    *(ModuleType, torch.Generator),
)
_COUNTS = ("batch_size", "num_samples", "num_graphs")
"""What numbers are called that are not the same for a part of a batch."""


def rows_of(batch: FrozenBatch, rows: Sequence[int]) -> FrozenBatch:
    """Some samples of a batch, as a batch of their own with its index.

    Tensors and arrays are cut along their first dimension, which must be the number of samples; a
    list of as many things that are no tensors is cut by position. Texts, numbers, None, classes,
    modules and functions beside them are taken to be the same for all samples. A batch of graphs
    takes itself apart, a dictionary of tensors that has a batch size is indexed.

    Raises:
        RefusedError: If it is not certain what belongs to a sample.
    """
    count = batch.num_samples
    if count == 1 and list(rows) == [0]:
        return batch
    try:
        data = _Cut(count, tuple(rows)).of(batch.data)
    except Exception as error:
        # attributes of objects may answer with anything
        reason = error if isinstance(error, Uncertain) else f"{type(error).__name__}: {error}"
        raise RefusedError(
            f"a batch of {count} samples cannot be cut into its samples: {reason}. Give "
            "`batch_size=1`, or a `dataloader` of such batches, so that each sample is collated "
            "alone."
        ) from None
    return replace(batch, data=data, num_samples=len(rows), weight=len(rows))


class Uncertain(Exception):
    """It cannot be told which part of a batch belongs to which sample."""


@dataclass(frozen=True, slots=True)
class _Cut:
    count: int
    rows: tuple[int, ...]

    def of(self, thing: Any) -> Any:
        """The rows of a thing, or the thing itself where it is the same for all samples."""
        if isinstance(thing, Tensor | np.ndarray):
            return self._of_array(thing)
        if isinstance(thing, _CONSTANTS):
            return thing
        if hasattr(thing, "to_data_list") and hasattr(thing, "from_data_list"):
            return self._of_graphs(thing)
        if has_batch_size(thing):
            return self._of_tensor_dictionary(thing)
        if isinstance(thing, Mapping):
            return rebuilt_mapping(thing, self._of_parts(thing))
        if isinstance(thing, list | tuple):
            return self._of_sequence(thing)
        return self._of_object(thing)

    def _of_array(self, thing: Any) -> Any:
        if isinstance(thing, Tensor) and (thing.is_nested or thing.layout != torch.strided):
            kind = "nested" if thing.is_nested else str(thing.layout)
            raise Uncertain(f"it holds a tensor of layout {kind}")
        if thing.ndim == 0 or thing.shape[0] != self.count:
            raise Uncertain(f"it holds a {type(thing).__name__} of shape {tuple(thing.shape)}")
        return thing[list(self.rows)]

    def _of_sequence(self, thing: Any) -> Any:
        has_one_each = len(thing) == self.count
        are_composite = has_one_each and all(map(_is_composite, thing))
        if has_one_each and all(map(_is_constant if are_composite else is_plain, thing)):
            return self._by_position(thing)
        try:
            own = rebuilt(thing, [self.of(item) for item in thing])
        except Uncertain:
            # a list of tensors of different shapes, one for each sample
            if has_one_each and type(thing) in (list, tuple):
                return self._by_position(thing)
            raise
        if are_composite and self.count > 1:
            kind = type(thing[0]).__name__
            raise Uncertain(f"of {self.count} things of the kind {kind} each may be of one sample")
        return own

    def _by_position(self, thing: Any) -> Any:
        return rebuilt(thing, [thing[row] for row in self.rows])

    def _of_graphs(self, thing: Any) -> Any:
        """Of a batch that takes itself apart, as those of PyTorch Geometric do."""
        items = thing.to_data_list()
        if len(items) != self.count:
            raise Uncertain(f"it holds a {type(thing).__name__} of {len(items)} items")
        # vectors that deal other parts than nodes to the graphs are made where they are asked for
        names = set(thing.keys()) if callable(getattr(thing, "keys", None)) else set()
        followed = sorted(name for name in names if f"{name}_batch" in names)
        options = {"follow_batch": followed} if followed else {}
        return thing.from_data_list([items[row] for row in self.rows], **options)

    def _of_tensor_dictionary(self, thing: Any) -> Any:
        """Of a collection of tensors with leading dimensions of its own."""
        if thing.batch_size[0] != self.count:
            shape = tuple(thing.batch_size)
            raise Uncertain(f"it holds a {type(thing).__name__} of batch size {shape}")
        return thing[torch.tensor(self.rows)]

    def _of_object(self, thing: Any) -> Any:
        """Of a copy, attribute by attribute, whether in a dictionary or in slots."""
        parts = _attributes(thing)
        if parts is None:
            raise Uncertain(f"it holds a {type(thing).__name__}")
        try:
            cut = self._of_parts(parts)
        except Uncertain as error:
            raise Uncertain(f"{error} in a {type(thing).__name__}") from None
        own = copy.copy(thing)
        for name, value in cut.items():
            # also of what is frozen
            object.__setattr__(own, name, value)
        has_length = hasattr(thing, "__len__") and len(thing) == self.count
        if has_length and len(own) != len(self.rows):
            raise Uncertain(f"it holds a {type(thing).__name__}, whose length would stay as it is")
        return own

    def _of_parts(self, parts: Mapping[Any, Any]) -> dict[Any, Any]:
        """Of each part under its name, none of which may speak of the whole batch."""
        for name, value in parts.items():
            if self._tells_of_all(str(name), value):
                raise Uncertain(f"it holds {name!r}, which is of the whole batch")
        return {name: self.of(value) for name, value in parts.items()}

    def _tells_of_all(self, name: str, value: Any) -> bool:
        """Whether it counts the samples, or deals parts to them: a part would have another."""
        if name in _COUNTS:
            return isinstance(value, int) and value == self.count
        deals = name == "batch" or name.endswith("_batch")
        if not deals or not isinstance(value, Tensor) or value.is_floating_point():
            return False
        positions = torch.arange(self.count, dtype=value.dtype, device=value.device)
        return self.count > 1 and torch.equal(value, positions)


def is_plain(thing: Any) -> bool:
    """Whether it is the same for all samples, unless there is a list of one for each."""
    return isinstance(thing, _CONSTANTS)


def _is_composite(thing: Any) -> bool:
    """Whether it has parts that go by names."""
    return not isinstance(thing, (*_CONSTANTS, Tensor, np.ndarray, list, tuple))


def _is_constant(thing: Any) -> bool:
    """Whether there is no array in it that could be cut."""
    try:
        _Cut(-1, ()).of(thing)
    except Uncertain:
        return False
    return True


def has_batch_size(thing: Any) -> bool:
    """Whether it is a collection of tensors that is indexed as one, as those of tensordict are."""
    size = getattr(thing, "batch_size", None)
    return isinstance(size, torch.Size) and len(size) > 0


def _attributes(thing: Any) -> dict[str, Any] | None:
    """What an object holds by name; None of an object that shows nothing of it."""
    found: dict[str, Any] = {}
    for kind in type(thing).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            is_private = name.startswith("__") and not name.endswith("__")
            own = f"_{kind.__name__.lstrip('_')}{name}" if is_private else name
            if own not in ("__dict__", "__weakref__") and hasattr(thing, own):
                found[own] = getattr(thing, own)
    has_dictionary = hasattr(thing, "__dict__")
    if has_dictionary:
        found |= vars(thing)
    return found if found or has_dictionary else None


def rebuilt(like: Any, items: list[Any]) -> Any:
    """A sequence of the same kind."""
    return type(like)(*items) if hasattr(like, "_fields") else type(like)(items)


def rebuilt_mapping(like: Any, items: dict[Any, Any]) -> Any:
    """A mapping of the same kind, with other values."""
    try:
        own = copy.copy(like)
        for key, value in items.items():
            own[key] = value
    except TypeError:
        raise Uncertain(f"it holds a {type(like).__name__}, which cannot be changed") from None
    return own
