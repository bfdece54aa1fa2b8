"""A fixed, reproducible sample of the training data, collated once and kept on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from lightning_hessian.errors import RefusedError


@dataclass(frozen=True, eq=False)
class TrainingData:
    """A map-style data set as the training loader uses it.

    Attributes:
        dataset: Indexable.
        indices: The positions that training draws from.
        batch_size: Samples per batch of training.
        collate: Makes a batch from a list of samples.
        description: Where it comes from, in words.
    """

    dataset: Any
    indices: Sequence[int]
    batch_size: int
    collate: Callable[[list[Any]], Any]
    description: str


@dataclass(frozen=True, eq=False)
class FrozenBatch:
    """One batch of the frozen sample.

    Attributes:
        data: What the collate function made, before any transfer to a device.
        size: Number of samples in it: its weight in the mean.
        index: Its number in the frozen sample: the step's ``batch_idx``, and the seed of its random
            numbers.
    """

    data: Any
    size: int
    index: int


@dataclass(frozen=True, eq=False)
class FrozenBatches:
    """The frozen sample.

    Attributes:
        batches: In the order of evaluation.
        num_samples: Sum of the batch sizes.
        description: What it is a sample of, in words.
    """

    batches: tuple[FrozenBatch, ...]
    num_samples: int
    description: str


def freeze_batches(
    data: TrainingData,
    *,
    num_samples: int | Literal["all"],
    batch_size: int | None,
    seed: int,
    reseed: Callable[[int], None],
    share: tuple[int, int] = (0, 1),
) -> FrozenBatches:
    """Draw samples without replacement and collate them into batches.

    The choice depends on ``seed`` and the data's length only. Every sample is fetched after its own
    reseeding, so random augmentation gives the same sample whatever the batch size, at every
    measurement and after a resume.

    Args:
        data: Where to draw from.
        num_samples: How many; all when there are fewer, or with ``"all"``.
        batch_size: Samples per batch; the training loader's when None. The last may be smaller.
        seed: Of the choice.
        reseed: Called with the sample's index before it is fetched; sets every random source.
        share: The rank of this process, and how many share the batches: each fetches every so-many
            of them. One for which none is left gets the last one, without weight.

    Returns:
        The batches of this process, at least one.

    Raises:
        RefusedError: If the data set is empty.
    """
    population = len(data.indices)
    if population == 0:
        raise RefusedError(
            f"{data.description} is empty, so there is no training loss to measure. Give the "
            "Trainer a training set with at least one sample."
        )
    count = population if num_samples == "all" else min(num_samples, population)
    generator = torch.Generator().manual_seed(seed)
    chosen = [data.indices[i] for i in torch.randperm(population, generator=generator)[:count]]
    size = batch_size or data.batch_size
    starts = range(0, count, size)
    rank, num_processes = share
    own = range(rank, len(starts), num_processes)
    batches: list[FrozenBatch] = []
    for number in own or [len(starts) - 1]:
        group = []
        for index in chosen[starts[number] : starts[number] + size]:
            reseed(int(index))
            group.append(data.dataset[int(index)])
        weight = len(group) if own else 0
        batches.append(FrozenBatch(data.collate(group), weight, index=number))
    part = f"all {count:,}" if count == population else f"{count:,} of {population:,}"
    return FrozenBatches(
        tuple(batches),
        sum(batch.size for batch in batches),
        f"{part} samples of {data.description}",
    )
