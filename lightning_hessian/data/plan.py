"""Which samples are in which frozen batch, decided before any is fetched.

So several processes can draw up the same plan and fetch a share each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_hessian.errors import RefusedError


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
        takes_lists: Whether the data set is asked for a list of positions at once, and gives what
            ``collate`` takes.
        is_redrawn: Whether another epoch holds other samples, so that those of one are a part of
            infinitely many.
        weights: ``(len(indices),)`` how often training draws each position beside others; None
            where each is drawn alike.
        groups: The batches of positions that a sampler draws in an epoch; None where samples meet
            at random.
    """

    dataset: Any
    indices: Sequence[int]
    batch_size: int
    collate: Callable[[list[Any]], Any]
    description: str
    is_ordered: bool = False
    num_batches: int = 1
    takes_lists: bool = False
    is_redrawn: bool = False
    weights: Tensor | None = None
    groups: Sequence[tuple[int, ...]] | None = None


@dataclass(frozen=True, eq=False)
class PlannedBatch:
    """Which samples a batch is made of.

    Attributes:
        index: Its number in the frozen sample.
        groups: For each data set the positions in it; None for one that is exhausted.
        weight: Its samples of the data set that sets the pace.
        scale: How much each of them counts in the mean over batches.
    """

    index: int
    groups: tuple[tuple[int, ...] | None, ...]
    weight: int
    scale: float = 1.0


@dataclass(frozen=True, eq=False)
class BatchPlan:
    """Which samples are in which batch.

    Attributes:
        data: The data sets; most often one.
        batches: In the order of evaluation.
        build: Makes the batch of a step from one batch of each data set.
        description: What it is a sample of, in words.
        population: Samples that these were drawn from, themselves included; None if not known, or
            where they may be drawn again.
        most: Samples of the largest plan of the same data; None if not known.
        may_be_weighed: Whether all samples could be had at their weights, in place of draws.
    """

    data: tuple[TrainingData, ...]
    batches: tuple[PlannedBatch, ...]
    build: Callable[[list[Any]], Any]
    description: str
    population: int | None = None
    most: int | None = None
    may_be_weighed: bool = False


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
    population = count_positions(data)
    count = population if num_samples == "all" else min(num_samples, population)
    groups = grouped(shuffled(data.indices, seed)[:count], batch_size or data.batch_size)
    share = f"all {count:,}" if count == population else f"{count:,} of {population:,}"
    epoch = " of an epoch" if data.is_redrawn else ""
    return BatchPlan(
        data=(data,),
        batches=planned(groups),
        build=build,
        description=f"{share} samples{epoch} of {data.description}",
        population=None if data.is_redrawn else population,
        most=population,
    )


def plan_steps(
    data: tuple[TrainingData, ...],
    *,
    num_samples: int | Literal["all"],
    mode: str,
    seed: int,
    build: Callable[[list[Any]], Any],
) -> BatchPlan:
    """Draw steps from a simulated epoch over several data sets, combined as ``mode`` says.

    So each frozen batch combines what one step of training would combine: data sets that keep their
    order stay aligned, the others are shuffled each for itself. All steps count alike in training;
    here a step weighs as many samples as it takes from the data set that sets the length of the
    epoch, as a single loader's batch does.
    """
    for each in data:
        count_positions(each)
    groups = [epoch_of(each, seed + leaf) for leaf, each in enumerate(data)]
    sign = -1 if mode == "min_size" else 1
    pace = max(range(len(data)), key=lambda k: (sign * data[k].num_batches, len(data[k].indices)))
    chosen: list[PlannedBatch] = []
    total, length = 0, data[pace].num_batches
    for step in shuffled(range(length), seed):
        parts = tuple(
            _group_at(step, group, each.num_batches, mode)
            for group, each in zip(groups, data, strict=True)
        )
        weight = len(parts[pace] or ())
        chosen.append(PlannedBatch(len(chosen), parts, weight))
        total += weight
        if num_samples != "all" and total >= num_samples:
            break
    is_whole = len(chosen) == length and not any(each.is_redrawn for each in data)
    names = " and ".join(each.description for each in data)
    share = "all" if len(chosen) == length else f"{len(chosen):,} of"
    return BatchPlan(
        data=data,
        batches=tuple(chosen),
        build=build,
        description=(
            f"{share} {length:,} steps of an epoch over {len(data)} loaders ({mode}) "
            f"of {names}, weighted by their {total:,} samples of the one that sets its length "
            f"({data[pace].description})"
        ),
        population=total if is_whole else None,
        most=total if is_whole else None,
    )


def shuffled(indices: Sequence[int], seed: int) -> list[int]:
    """The positions in an order that depends on the seed and their number only."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(indices), generator=generator).tolist()
    return [int(indices[i]) for i in order]


def drawn(data: TrainingData, count: int, seed: int) -> list[int]:
    """So many positions by their weights, with replacement; of fewer the first are the same."""
    assert data.weights is not None
    generator = torch.Generator().manual_seed(seed)
    heights = data.weights.cumsum(dim=0)
    places = heights[-1] * torch.rand(count, dtype=torch.float64, generator=generator)
    found = torch.searchsorted(heights, places, right=True).clamp(max=len(heights) - 1)
    return [int(data.indices[i]) for i in found.tolist()]


def count_positions(data: TrainingData) -> int:
    """Number of positions that training draws from, at least one."""
    if not len(data.indices):
        raise RefusedError(
            f"{data.description} is empty, so there is no training loss to measure. Give the "
            "Trainer a training set with at least one sample."
        )
    return len(data.indices)


def planned(groups: Sequence[tuple[int, ...]]) -> tuple[PlannedBatch, ...]:
    """A batch of each group of positions in the one data set that there is."""
    return tuple(PlannedBatch(b, (group,), len(group)) for b, group in enumerate(groups))


def grouped(indices: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """Cut positions into groups; the last may be smaller."""
    return [tuple(indices[i : i + size]) for i in range(0, len(indices), size)]


def epoch_of(data: TrainingData, seed: int) -> Sequence[tuple[int, ...]]:
    """A simulated epoch over a data set, in batches as training has them."""
    if data.groups is not None:
        return data.groups
    if data.weights is not None:
        return grouped(drawn(data, data.num_batches * data.batch_size, seed), data.batch_size)
    keeps_order = data.is_ordered or data.is_redrawn
    order = data.indices if keeps_order else shuffled(data.indices, seed)
    return grouped(order, data.batch_size)


def _group_at(
    step: int, groups: Sequence[tuple[int, ...]], num_batches: int, mode: str
) -> tuple[int, ...] | None:
    """A data set's part of a step: the next group, cycling, or None when it is exhausted."""
    if mode == "max_size" and step >= num_batches:
        return None
    return groups[step % num_batches % len(groups)]
