"""How a loader comes to its batches, read without drawing a single one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

_UNIFORM = (SequentialSampler, RandomSampler, SubsetRandomSampler, DistributedSampler)


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """The samplers of a loader, as those of a single process.

    Attributes:
        batches: What puts samples into batches; None where nothing does.
        sampler: What the samples are drawn by.
        num_processes: Among which a sampler deals out what it draws.
        reach: Samples of an epoch that are dealt out, of all processes together.
        is_ordered: Whether samples come in their order.
        takes_lists: Whether the data set is asked for lists of positions.
    """

    batches: Any
    sampler: object
    num_processes: int
    reach: float
    is_ordered: bool
    takes_lists: bool

    @classmethod
    def of(cls, loader: DataLoader[Any]) -> Drawing:
        """What Lightning has distributed over processes counts as that of a single one.

        Without automatic batching the sampler may be one of batches: the data set is then asked for
        lists.
        """
        if loader.batch_sampler is not None:
            dealt = _Dealt.of(getattr(loader.batch_sampler, "sampler", None))
            return cls(
                loader.batch_sampler,
                dealt.sampler,
                dealt.num_processes,
                dealt.reach,
                dealt.keeps_order and _is_sequential(dealt.sampler),
                takes_lists=False,
            )
        dealt = _Dealt.of(loader.sampler)
        is_batches = isinstance(dealt.sampler, BatchSampler)
        batches: Any = dealt.sampler if is_batches else None
        inner = _Dealt.of(getattr(batches, "sampler", None))
        return cls(
            batches,
            inner.sampler,
            dealt.num_processes * inner.num_processes,
            inner.reach,
            dealt.keeps_order and inner.keeps_order and _is_sequential(inner.sampler),
            takes_lists=True,
        )

    @property
    def has_own_batches(self) -> bool:
        """Whether samples are put into batches by another rule than so many in a row."""
        return type(self.batches) is not BatchSampler

    @property
    def preference(self) -> str | None:
        """The kind of sampler that may not take every position alike, if there is one."""
        if self.has_own_batches:
            return type(self.batches).__name__
        return None if type(self.sampler) in _UNIFORM else type(self.sampler).__name__

    @property
    def step_size(self) -> int | None:
        """Samples of a batch, where what makes batches tells."""
        size = getattr(self.batches, "batch_size", None)
        return size if isinstance(size, int) else None

    @property
    def subset(self) -> list[int] | None:
        """The positions that a sampler is restricted to, where it keeps them as data."""
        indices = getattr(self.sampler, "indices", None)
        if isinstance(indices, Sequence | Tensor | np.ndarray):
            return [int(index) for index in indices]
        return None

    @property
    def weights(self) -> Tensor | None:
        """How often each position is drawn beside others, where the sampler keeps that as data."""
        sampler = self.sampler
        is_known = (
            not self.has_own_batches
            and isinstance(sampler, WeightedRandomSampler)
            and type(sampler).__iter__ is WeightedRandomSampler.__iter__
        )
        if not is_known:
            return None
        assert isinstance(sampler, WeightedRandomSampler)
        weights = sampler.weights.detach().cpu().double()
        if sampler.replacement:
            return weights
        # drawn without replacement: all that can be drawn come once an epoch, or it is not known
        positive = weights > 0
        return positive.double() if sampler.num_samples >= int(positive.sum()) else None


@dataclass(frozen=True, slots=True, eq=False)
class _Dealt:
    """What one process would draw by, of what is dealt out to several."""

    sampler: Any
    num_processes: int
    reach: float
    keeps_order: bool

    @classmethod
    def of(cls, sampler: Any) -> _Dealt:
        if not isinstance(sampler, DistributedSampler):
            return cls(sampler, 1, math.inf, keeps_order=True)
        # Lightning wraps a sampler of the user's into the data set of its distributed one
        inner = getattr(sampler.dataset, "_sampler", None)
        number = sampler.num_replicas
        if inner is not None:
            return cls(inner, number, math.inf, keeps_order=not sampler.shuffle)
        return cls(sampler, number, sampler.total_size, keeps_order=not sampler.shuffle)


def _is_sequential(sampler: object) -> bool:
    """Whether positions come in their order, unless they are dealt out in another."""
    return isinstance(sampler, SequentialSampler | DistributedSampler)


def draws_uniformly(loader: DataLoader[Any]) -> bool:
    """Whether an indexable loader's samplers are known to take every position alike."""
    return Drawing.of(loader).preference is None


def is_ordered(loader: DataLoader[Any]) -> bool:
    """Whether an indexable loader gives its samples in their order."""
    return Drawing.of(loader).is_ordered
