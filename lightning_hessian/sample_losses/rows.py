"""Cuts a collated batch into its samples, where it is certain which part belongs to which."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_hessian.data import FrozenBatch
from lightning_hessian.errors import RefusedError

_CONSTANTS = (
    *(str, bytes, bool, int, float, complex, type(None), torch.dtype, torch.device),
    # classes, enumerations, functions and layers are of no sample more than of another
    *(type, Enum, FunctionType, BuiltinFunctionType, MethodType, partial, torch.nn.Module),
)


def rows_of(batch: FrozenBatch, rows: Sequence[int]) -> FrozenBatch:
    """Some samples of a batch, as a batch of their own with its index.

    Tensors and arrays are cut along their first dimension, which must be the number of samples; a
    list of as many things that are no tensors is cut by position. Texts, numbers, None, classes and
    functions beside them are taken to be the same for all samples. A batch of graphs takes itself
    apart.

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
        reason = error if isinstance(error, _Uncertain) else f"{type(error).__name__}: {error}"
        raise RefusedError(
            f"a batch of {count} samples cannot be cut into its samples: {reason}. Give "
            "`batch_size=1`, or a `dataloader` of such batches, so that each sample is collated "
            "alone."
        ) from None
    return replace(batch, data=data, num_samples=len(rows), weight=len(rows))


def halved(batch: FrozenBatch) -> tuple[FrozenBatch, FrozenBatch]:
    """A batch as two random halves; of three samples or less, the second one counts for nothing.

    So that each process has as many halves as the others, and batch statistics have two samples.

    Raises:
        RefusedError: If it is not certain what belongs to a sample.
    """
    count = batch.num_samples
    if count < 4:
        return batch, replace(batch, weight=0)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(batch.index))
    first, second = (rows_of(batch, sorted(half.tolist())) for half in order.tensor_split(2))
    if batch.is_repeat:
        return replace(first, weight=0), replace(second, weight=0)
    return first, second


def joined(batches: Sequence[FrozenBatch]) -> FrozenBatch | None:
    """Batches as one, joined along the first dimension; None if they do not fit.

    The reverse of :func:`rows_of`, but for objects, whose attributes are not looked into.
    """
    if len(batches) == 1:
        return batches[0]
    try:
        counts = tuple(batch.num_samples for batch in batches)
        data = _join([batch.data for batch in batches], counts)
    except _Uncertain:
        return None
    count = sum(batch.num_samples for batch in batches)
    return replace(batches[0], data=data, num_samples=count, weight=count)


class _Uncertain(Exception):
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
        if isinstance(thing, Mapping):
            return _rebuilt_mapping(thing, {key: self.of(value) for key, value in thing.items()})
        if isinstance(thing, list | tuple):
            return self._of_sequence(thing)
        return self._of_object(thing)

    def _of_array(self, thing: Any) -> Any:
        if isinstance(thing, Tensor) and (thing.is_nested or thing.layout != torch.strided):
            kind = "nested" if thing.is_nested else str(thing.layout)
            raise _Uncertain(f"it holds a tensor of layout {kind}")
        if thing.ndim == 0 or thing.shape[0] != self.count:
            raise _Uncertain(f"it holds a {type(thing).__name__} of shape {tuple(thing.shape)}")
        return thing[list(self.rows)]

    def _of_sequence(self, thing: Any) -> Any:
        has_one_each = len(thing) == self.count
        if has_one_each and all(isinstance(item, _CONSTANTS) for item in thing):
            return _rebuilt(thing, [thing[row] for row in self.rows])
        try:
            return _rebuilt(thing, [self.of(item) for item in thing])
        except _Uncertain:
            # a list of tensors of different shapes, one for each sample
            if has_one_each and type(thing) in (list, tuple):
                return _rebuilt(thing, [thing[row] for row in self.rows])
            raise

    def _of_graphs(self, thing: Any) -> Any:
        """Of a batch that takes itself apart, as those of PyTorch Geometric do."""
        items = thing.to_data_list()
        if len(items) != self.count:
            raise _Uncertain(f"it holds a {type(thing).__name__} of {len(items)} items")
        return thing.from_data_list([items[row] for row in self.rows])

    def _of_object(self, thing: Any) -> Any:
        attributes = getattr(thing, "__dict__", None)
        if attributes is None:
            raise _Uncertain(f"it holds a {type(thing).__name__}")
        own = copy.copy(thing)
        own.__dict__.update({name: self.of(value) for name, value in attributes.items()})
        return own


def _join(things: list[Any], counts: tuple[int, ...]) -> Any:
    first = things[0]
    if any(type(thing) is not type(first) for thing in things):
        raise _Uncertain
    if isinstance(first, Tensor | np.ndarray):
        return _join_arrays(things, counts)
    if isinstance(first, Mapping):
        if any(thing.keys() != first.keys() for thing in things):
            raise _Uncertain
        joint = {key: _join([thing[key] for thing in things], counts) for key in first}
        return _rebuilt_mapping(first, joint)
    if isinstance(first, list | tuple):
        return _join_sequences(things, counts)
    if isinstance(first, _CONSTANTS) and all(thing == first for thing in things):
        return first
    raise _Uncertain


def _join_arrays(things: list[Any], counts: tuple[int, ...]) -> Any:
    """Those of a row for each sample, alike in all else."""
    first = things[0]
    is_tensor = isinstance(first, Tensor)
    if is_tensor and any(thing.is_nested or thing.layout != torch.strided for thing in things):
        raise _Uncertain
    for thing, count in zip(things, counts, strict=True):
        if thing.ndim == 0 or thing.shape[0] != count or thing.shape[1:] != first.shape[1:]:
            raise _Uncertain
        if thing.dtype != first.dtype:
            raise _Uncertain
    return torch.cat(things) if is_tensor else np.concatenate(things)


def _join_sequences(things: list[Any], counts: tuple[int, ...]) -> Any:
    first = things[0]
    has_one_each = type(first) in (list, tuple) and all(
        len(thing) == count for thing, count in zip(things, counts, strict=True)
    )
    if has_one_each and all(isinstance(item, _CONSTANTS) for thing in things for item in thing):
        return _rebuilt(first, [item for thing in things for item in thing])
    try:
        if any(len(thing) != len(first) for thing in things):
            raise _Uncertain
        return _rebuilt(first, [_join(list(parts), counts) for parts in zip(*things, strict=True)])
    except _Uncertain:
        # a list of tensors of different shapes, one for each sample, but never parts of samples
        if has_one_each and not any(map(_has_parts, things, counts)):
            return _rebuilt(first, [item for thing in things for item in thing])
        raise


def _has_parts(things: list[Any], count: int) -> bool:
    """Whether a list of as many things as samples may hold a row of each sample in each thing."""
    return count == 1 or any(tuple(getattr(t, "shape", ()))[:1] == (count,) for t in things)


def _rebuilt(like: Any, items: list[Any]) -> Any:
    return type(like)(*items) if hasattr(like, "_fields") else type(like)(items)


def _rebuilt_mapping(like: Any, items: dict[Any, Any]) -> Any:
    try:
        own = copy.copy(like)
        for key, value in items.items():
            own[key] = value
    except TypeError:
        raise _Uncertain(f"it holds a {type(like).__name__}, which cannot be changed") from None
    return own
