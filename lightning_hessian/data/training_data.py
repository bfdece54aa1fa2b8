"""What a loader draws from, read without drawing a single batch from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from lightning.fabric.utilities.data import sized_len
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
)

from lightning_hessian.data.plan import TrainingData
from lightning_hessian.errors import RefusedError

_UNIFORM = (SequentialSampler, RandomSampler, SubsetRandomSampler, DistributedSampler)


def is_indexable(loader: object) -> bool:
    """Whether a loader's batches are samples of a data set with a length and an index.

    Not so where the data set yields batches, and for a subclass with an iteration of its own, which
    may do anything to a batch.
    """
    return (
        isinstance(loader, DataLoader)
        and type(loader).__iter__ is DataLoader.__iter__
        and type(loader)._get_iterator is DataLoader._get_iterator
        and not isinstance(loader.dataset, IterableDataset)
        and hasattr(loader.dataset, "__len__")
        and batch_sampler_of(loader) is not None
    )


def batch_sampler_of(loader: DataLoader[Any]) -> Any:
    """What puts samples into batches, if anything does.

    Without automatic batching it may be the sampler: the data set is then asked for lists.
    """
    if loader.batch_sampler is None and isinstance(loader.sampler, BatchSampler):
        return loader.sampler
    return loader.batch_sampler


def draws_uniformly(loader: DataLoader[Any]) -> bool:
    """Whether an indexable loader's samplers are known to take every position alike."""
    sampler = getattr(batch_sampler_of(loader), "sampler", None)
    return _other_sampler(loader, _undistributed(sampler)[0]) is None


def is_ordered(loader: DataLoader[Any]) -> bool:
    """Whether an indexable loader gives its samples in their order."""
    return _undistributed(getattr(batch_sampler_of(loader), "sampler", None))[2]


def training_data(
    loader: DataLoader[Any],
    *,
    name: str,
    batch_size: int | None = None,
    max_batches: float = math.inf,
) -> TrainingData:
    """Find the data set, the positions, the batch size and the collation of a loader.

    The loader itself is never iterated: that would reset persistent workers in the middle of an
    epoch, and draw from its generator. The ``indices`` of a subset sampler are respected; under a
    sequential sampler only the samples count that ``max_batches`` reach. Any other sampler is
    taken to draw from the whole data set, where each sample counts alike; the description says so.
    A sampler that Lightning has distributed over processes counts as the one of a single process.
    """
    dataset: Any = loader.dataset
    batches = batch_sampler_of(loader)
    step_size = getattr(batches, "batch_size", None)
    size = batch_size or step_size
    if not isinstance(size, int):
        raise RefusedError(
            f"the batch size of the training loader is unknown: its "
            f"{type(batches).__name__} has no integer `batch_size`. Give "
            "`batch_size=`."
        )
    sampler, num_processes, in_order = _undistributed(getattr(batches, "sampler", 0))
    length = sized_len(loader)
    num_batches = num_processes * min(math.inf if length is None else length, max_batches)
    positions: Sequence[int] = range(len(dataset))
    subset = _subset(sampler)
    if subset is not None:
        positions = subset
    elif in_order and isinstance(step_size, int) and num_batches < math.inf:
        positions = positions[: int(num_batches) * step_size]
    natural = math.ceil(len(positions) / size)
    other = _other_sampler(loader, sampler)
    alike = f", each alike, whatever its {other} prefers" if other else ""
    return TrainingData(
        dataset=dataset,
        indices=positions,
        batch_size=size,
        collate=loader.collate_fn,
        description=f"{name} ({type(dataset).__name__}{alike})",
        is_ordered=in_order,
        takes_lists=loader.batch_sampler is None,
        num_batches=max(1, int(num_batches) if num_batches < math.inf else natural),
    )


def _other_sampler(loader: DataLoader[Any], sampler: object) -> str | None:
    """The kind of sampler that may not take every position alike, if there is one."""
    batches = batch_sampler_of(loader)
    if type(batches) is not BatchSampler:
        return type(batches).__name__
    return None if type(sampler) in _UNIFORM else type(sampler).__name__


def _undistributed(sampler: Any) -> tuple[object, int, bool]:
    """The sampler of a single process, the number of processes, and whether it is sequential."""
    if not isinstance(sampler, DistributedSampler):
        return sampler, 1, isinstance(sampler, SequentialSampler)
    # Lightning wraps a sampler of the user's into the data set of its distributed one
    inner = getattr(sampler.dataset, "_sampler", None)
    in_order = inner is None and not sampler.shuffle
    return (sampler if inner is None else inner), sampler.num_replicas, in_order


def _subset(sampler: object) -> list[int] | None:
    """The positions that a sampler is restricted to, where it keeps them as data."""
    indices = getattr(sampler, "indices", None)
    if isinstance(indices, Sequence | Tensor | np.ndarray):
        return [int(index) for index in indices]
    return None
