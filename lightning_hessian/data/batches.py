"""A fixed, reproducible sample of the training data, collated once and kept on the CPU.

Which samples are in a batch (the plan) is apart from fetching them, so that several processes can
draw up the same plan and fetch a share each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from lightning_hessian.errors import RefusedError

WeightFunction = Callable[[Any], float]
"""From a batch to its weight in the mean."""


@dataclass(frozen=True, eq=False)
class TrainingData:
    """A map-style data set as a training loader uses it.

    Attributes:
        dataset: Indexable.
        indices: The positions that training draws from.
        batch_size: Samples per batch.
        collate: Makes a batch from a list of samples.
        description: Where it comes from, in words.
        is_ordered: Whether training takes the positions in their order, in each epoch.
        num_batches: Batches per epoch, over all processes.
    """

    dataset: Any
    indices: Sequence[int]
    batch_size: int
    collate: Callable[[list[Any]], Any]
    description: str
    is_ordered: bool = False
    num_batches: int = 1


@dataclass(frozen=True, eq=False)
class PlannedBatch:
    """Which samples a batch is made of.

    Attributes:
        index: Its number in the frozen sample.
        groups: For each data set the positions in it; None for one that is exhausted.
        weight: In the mean over batches: samples of the data set that sets the pace.
    """

    index: int
    groups: tuple[tuple[int, ...] | None, ...]
    weight: int


@dataclass(frozen=True, eq=False)
class BatchPlan:
    """Which samples are in which batch, before any is fetched.

    Attributes:
        data: The data sets; most often one.
        batches: In the order of evaluation.
        build: Makes the batch of a step from one batch of each data set.
        description: What it is a sample of, in words.
        population: Samples that these were drawn from, themselves included; None if not known.
    """

    data: tuple[TrainingData, ...]
    batches: tuple[PlannedBatch, ...]
    build: Callable[[list[Any]], Any]
    description: str
    population: int | None = None


@dataclass(frozen=True, eq=False)
class FrozenBatch:
    """One batch of the frozen sample.

    Attributes:
        data: What the collate function made, or what training saw.
        weight: In the mean over batches: its number of samples, unless the user weighs otherwise.
        index: Its number in the frozen sample: the step's ``batch_idx``, and the seed of its random
            numbers.
        num_samples: That it holds, of the data set that sets the pace.
    """

    data: Any
    weight: float
    index: int
    num_samples: int

    @property
    def is_repeat(self) -> bool:
        """Whether it stands in for a batch that this process lacks, and counts for nothing."""
        return self.weight == 0


@dataclass(frozen=True, eq=False)
class FrozenBatches:
    """The frozen sample, or one process's share of it.

    Attributes:
        batches: In the order of evaluation.
        num_samples: In these batches.
        description: What it is a sample of, in words.
        are_transferred: Whether the batches went through the transfer hooks already.
        are_drawn: Whether samples were put into batches at random.
        population: Samples that these were drawn from, themselves included; None if not known.
    """

    batches: tuple[FrozenBatch, ...]
    num_samples: int
    description: str
    are_transferred: bool = False
    are_drawn: bool = False
    population: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether these are all samples that there are."""
        return self.population is not None and self.num_samples >= self.population


def plan_batches(
    data: TrainingData,
    *,
    num_samples: int | Literal["all"],
    batch_size: int | None,
    seed: int,
    build: Callable[[list[Any]], Any] = lambda batches: batches[0],
) -> BatchPlan:
    """Draw samples of one data set without replacement and group them into batches.

    The choice depends on ``seed`` and the data's length only. The last batch may be smaller.
    """
    population = refuse_empty(data)
    count = population if num_samples == "all" else min(num_samples, population)
    groups = grouped(shuffled(data.indices, seed)[:count], batch_size or data.batch_size)
    share = f"all {count:,}" if count == population else f"{count:,} of {population:,}"
    return BatchPlan(
        data=(data,),
        batches=tuple(PlannedBatch(b, (group,), len(group)) for b, group in enumerate(groups)),
        build=build,
        description=f"{share} samples of {data.description}",
        population=population,
    )


def fetch_batches(
    plan: BatchPlan,
    *,
    reset: Callable[[int], None],
    reseed: Callable[[int], None],
    share: tuple[int, int] = (0, 1),
    weight_fn: WeightFunction | None = None,
) -> FrozenBatches:
    """Fetch the samples of a plan, or of a process's share of it, and collate them.

    Every batch is fetched from the same state, and every sample after its own reseeding: random
    augmentation gives the same sample whatever the batch size and whoever fetches it, at every
    measurement and after a resume.

    Args:
        plan: From :func:`plan_batches` or its like for several data sets.
        reset: Called with the batch's index before it is fetched; undoes what fetching left behind.
        reseed: Called with the sample's number, counted through all data sets, before it is
            fetched; sets every random source.
        share: Rank and number of processes; batch ``b`` belongs to rank ``b % number``.
        weight_fn: Weight of a batch instead of its number of samples.
    """
    rank, size = share
    own = plan.batches[rank::size]
    first_numbers = [0]
    for data in plan.data[:-1]:
        first_numbers.append(first_numbers[-1] + len(data.dataset))
    frozen: list[FrozenBatch] = []
    # a process for which no batch is left gets the last one, without weight
    for planned in own or plan.batches[-1:]:
        reset(planned.index)
        parts = [
            None if group is None else _collated(data, group, first, reseed)
            for data, group, first in zip(plan.data, planned.groups, first_numbers, strict=True)
        ]
        batch = plan.build(parts)
        weight: float = planned.weight if own else 0
        if weight_fn is not None and weight > 0:
            weight = weight_by(weight_fn, batch)
        frozen.append(FrozenBatch(batch, weight, planned.index, planned.weight))
    suffix = "" if weight_fn is None else ", weighted by `weight_fn`"
    count = sum(planned.weight for planned in own)
    return FrozenBatches(
        tuple(frozen),
        count,
        plan.description + suffix,
        are_drawn=True,
        population=plan.population,
    )


def _collated(
    data: TrainingData, group: Sequence[int], first_number: int, reseed: Callable[[int], None]
) -> Any:
    samples = []
    for index in group:
        reseed(first_number + index)
        samples.append(data.dataset[index])
    return data.collate(samples)


def weight_by(weight_fn: WeightFunction, batch: Any) -> float:
    """Ask the user's function, whose answer must be a positive number."""
    weight = float(weight_fn(batch))
    if not (math.isfinite(weight) and weight > 0):
        raise RefusedError(
            f"`weight_fn` must return a positive number for every batch, got {weight}. Return its "
            "number of samples, or whatever else the loss of the batch is a mean over."
        )
    return weight


def refuse_empty(data: TrainingData) -> int:
    """Number of positions that training draws from, at least one."""
    if not len(data.indices):
        raise RefusedError(
            f"{data.description} is empty, so there is no training loss to measure. Give the "
            "Trainer a training set with at least one sample."
        )
    return len(data.indices)


def shuffled(indices: Sequence[int], seed: int) -> list[int]:
    """The positions in an order that depends on the seed and their number only."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(indices), generator=generator).tolist()
    return [int(indices[i]) for i in order]


def grouped(indices: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """Cut positions into groups; the last may be smaller."""
    return [tuple(indices[i : i + size]) for i in range(0, len(indices), size)]
