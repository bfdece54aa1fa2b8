"""Cuts a collated batch into its samples, where it is certain which part belongs to which."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_hessian.data import FrozenBatch
from lightning_hessian.errors import RefusedError

_CONSTANTS = (str, bytes, bool, int, float, complex, type(None), torch.dtype, torch.device)


def rows_of(batch: FrozenBatch, rows: Sequence[int]) -> FrozenBatch:
    """Some samples of a batch, as a batch of their own with its index.

    Tensors and arrays are cut along their first dimension, which must be the number of samples; a
    list of as many things that are no tensors is cut by position. Texts, numbers and None beside
    them are taken to be the same for all samples.

    Raises:
        RefusedError: If it is not certain what belongs to a sample.
    """
    count = batch.num_samples
    if count == 1 and list(rows) == [0]:
        return batch
    try:
        data = _Cut(count, tuple(rows)).of(batch.data)
    except _Uncertain as reason:
        raise RefusedError(
            f"a batch of {count} samples cannot be cut into its samples: {reason}. Give "
            "`batch_size=1`, or a `dataloader` of such batches, so that each sample is collated "
            "alone."
        ) from None
    return replace(batch, data=data, num_samples=len(rows), weight=len(rows))


def joined(batches: Sequence[FrozenBatch]) -> FrozenBatch | None:
    """Batches of one sample as one, joined along the first dimension; None if they do not fit."""
    try:
        data = _join([batch.data for batch in batches])
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

    def _of_object(self, thing: Any) -> Any:
        attributes = getattr(thing, "__dict__", None)
        if attributes is None:
            raise _Uncertain(f"it holds a {type(thing).__name__}")
        own = copy.copy(thing)
        own.__dict__.update({name: self.of(value) for name, value in attributes.items()})
        return own


def _join(things: list[Any]) -> Any:
    first = things[0]
    if any(type(thing) is not type(first) for thing in things):
        raise _Uncertain
    if isinstance(first, Tensor | np.ndarray):
        return _join_arrays(things)
    if isinstance(first, Mapping):
        if any(thing.keys() != first.keys() for thing in things):
            raise _Uncertain
        return _rebuilt_mapping(first, {k: _join([thing[k] for thing in things]) for k in first})
    if isinstance(first, list | tuple):
        return _join_sequences(things)
    if isinstance(first, _CONSTANTS) and all(thing == first for thing in things):
        return first
    raise _Uncertain


def _join_arrays(things: list[Any]) -> Any:
    """Those of one row each, alike in all else."""
    is_tensor = isinstance(things[0], Tensor)
    if is_tensor and any(thing.is_nested or thing.layout != torch.strided for thing in things):
        raise _Uncertain
    if any(thing.ndim == 0 or thing.shape[0] != 1 for thing in things):
        raise _Uncertain
    if any(thing.shape != things[0].shape for thing in things):
        raise _Uncertain
    return torch.cat(things) if is_tensor else np.concatenate(things)


def _join_sequences(things: list[Any]) -> Any:
    first = things[0]
    if any(len(thing) != len(first) for thing in things):
        raise _Uncertain
    is_one_each = type(first) in (list, tuple) and len(first) == 1
    if is_one_each and all(isinstance(thing[0], _CONSTANTS) for thing in things):
        return _rebuilt(first, [thing[0] for thing in things])
    return _rebuilt(first, [_join(list(parts)) for parts in zip(*things, strict=True)])


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
