"""Batches put together into one, where it is certain which part belongs to which sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_hessian.data import FrozenBatch
from lightning_hessian.sample_losses.rows import (
    Uncertain,
    has_batch_size,
    is_plain,
    rebuilt,
    rebuilt_mapping,
)


def joined(batches: Sequence[FrozenBatch]) -> FrozenBatch | None:
    """Batches as one, joined along the first dimension; None if they do not fit.

    The reverse of :func:`rows_of`, but for objects, whose attributes are not looked into.
    """
    if len(batches) == 1:
        return batches[0]
    try:
        counts = tuple(batch.num_samples for batch in batches)
        data = _join([batch.data for batch in batches], counts)
    except Uncertain:
        return None
    count = sum(batch.num_samples for batch in batches)
    return replace(batches[0], data=data, num_samples=count, weight=count)


def _join(things: list[Any], counts: tuple[int, ...]) -> Any:
    first = things[0]
    if any(type(thing) is not type(first) for thing in things):
        raise Uncertain
    if isinstance(first, Tensor | np.ndarray):
        return _join_arrays(things, counts)
    if has_batch_size(first):
        return _join_tensor_dictionaries(things, counts)
    if isinstance(first, Mapping):
        if any(thing.keys() != first.keys() for thing in things):
            raise Uncertain
        joint = {key: _join([thing[key] for thing in things], counts) for key in first}
        return rebuilt_mapping(first, joint)
    if isinstance(first, list | tuple):
        return _join_sequences(things, counts)
    if is_plain(first) and all(thing == first for thing in things):
        return first
    raise Uncertain


def _join_arrays(things: list[Any], counts: tuple[int, ...]) -> Any:
    """Those of a row for each sample, alike in all else."""
    first = things[0]
    is_tensor = isinstance(first, Tensor)
    if is_tensor and any(thing.is_nested or thing.layout != torch.strided for thing in things):
        raise Uncertain
    for thing, count in zip(things, counts, strict=True):
        if thing.ndim == 0 or thing.shape[0] != count or thing.shape[1:] != first.shape[1:]:
            raise Uncertain
        if thing.dtype != first.dtype:
            raise Uncertain
    return torch.cat(things) if is_tensor else np.concatenate(things)


def _join_tensor_dictionaries(things: list[Any], counts: tuple[int, ...]) -> Any:
    """By their own way, which torch calls."""
    if any(thing.batch_size[0] != count for thing, count in zip(things, counts, strict=True)):
        raise Uncertain
    try:
        return torch.cat(things)
    except Exception as error:  # of whatever kind for those that do not fit
        raise Uncertain from error


def _join_sequences(things: list[Any], counts: tuple[int, ...]) -> Any:
    first = things[0]
    has_one_each = type(first) in (list, tuple) and all(
        len(thing) == count for thing, count in zip(things, counts, strict=True)
    )
    if has_one_each and all(is_plain(item) for thing in things for item in thing):
        return rebuilt(first, [item for thing in things for item in thing])
    try:
        if any(len(thing) != len(first) for thing in things):
            raise Uncertain
        return rebuilt(first, [_join(list(parts), counts) for parts in zip(*things, strict=True)])
    except Uncertain:
        # a list of tensors of different shapes, one for each sample, but never parts of samples
        if has_one_each and not any(map(_has_parts, things, counts)):
            return rebuilt(first, [item for thing in things for item in thing])
        raise


def _has_parts(things: list[Any], count: int) -> bool:
    """Whether a list of as many things as samples may hold a row of each sample in each thing."""
    return count == 1 or any(tuple(getattr(t, "shape", ()))[:1] == (count,) for t in things)
