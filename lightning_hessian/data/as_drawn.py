"""Plans of samples that count as often as a sampler draws them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch

from lightning_hessian.data.plan import (
    BatchPlan,
    PlannedBatch,
    TrainingData,
    count_positions,
    drawn,
    grouped,
    planned,
    shuffled,
)

FEW_WEIGHTS = 64
"""Weights of samples for which there may be batches of their own, whatever the number of others."""

Build = Callable[[list[Any]], Any]
"""From one batch of each data set to the batch of a step."""


def plan_draws(
    data: TrainingData,
    *,
    num_samples: int | Literal["all"],
    batch_size: int | None,
    seed: int,
    build: Build,
    weighs: bool = False,
) -> BatchPlan:
    """Draw samples by their weights with replacement, as training does, at most as many as exist.

    Draws do not exhaust the samples, so that their errors are those of a part of infinitely many.
    With ``weighs`` all samples come once, in batches of one weight each, by which a mean over
    samples is that of infinitely many draws.
    """
    count = count_positions(data)
    wanted = count if num_samples == "all" else min(num_samples, count)
    may_be_weighed = wanted == count and _has_few_weights(data)
    size = batch_size or data.batch_size
    if weighs and may_be_weighed:
        return BatchPlan(
            data=(data,),
            batches=_weighed(data, size, seed),
            build=build,
            description=f"all {count:,} samples of {data.description}, by their weights",
            population=count,
            most=count,
            may_be_weighed=True,
        )
    groups = grouped(drawn(data, wanted, seed), size)
    return BatchPlan(
        data=(data,),
        batches=planned(groups),
        build=build,
        description=f"{wanted:,} draws, with replacement, of the {count:,} samples of "
        f"{data.description}",
        most=count,
        may_be_weighed=may_be_weighed,
    )


def plan_groups(
    data: TrainingData,
    *,
    num_samples: int | Literal["all"],
    batch_size: int | None,
    seed: int,
    build: Build,
) -> BatchPlan:
    """Take whole batches of an epoch, any of them, until there are enough samples.

    With a ``batch_size`` their samples are dealt into batches of that size.
    """
    assert data.groups is not None
    total = count_positions(data)
    chosen: list[tuple[int, ...]] = []
    count = 0
    for number in shuffled(range(len(data.groups)), seed):
        chosen.append(data.groups[number])
        count += len(chosen[-1])
        if num_samples != "all" and count >= num_samples:
            break
    num_chosen = len(chosen)
    if batch_size is not None:
        chosen = grouped([index for group in chosen for index in group], batch_size)
    return BatchPlan(
        data=(data,),
        batches=planned(chosen),
        build=build,
        description=f"{num_chosen:,} of {len(data.groups):,} batches ({count:,} samples) of an "
        f"epoch of {data.description}",
        most=total,
    )


def _has_few_weights(data: TrainingData) -> bool:
    """Whether batches of one weight each are not many more than batches of the training's."""
    assert data.weights is not None
    natural = len(data.indices) // data.batch_size
    return len(data.weights.unique()) <= max(FEW_WEIGHTS, natural)


def _weighed(data: TrainingData, size: int, seed: int) -> tuple[PlannedBatch, ...]:
    """All samples once, scaled so that the weights of the batches sum up to their number."""
    assert data.weights is not None
    count, batches = len(data.indices), list[PlannedBatch]()
    scales = data.weights * (count / data.weights.sum())
    order = torch.tensor(shuffled(range(count), seed))
    ranked, places = scales[order].sort(descending=True, stable=True)
    different, counts = ranked.unique_consecutive(return_counts=True)
    members = torch.as_tensor(data.indices)[order[places]].split(counts.tolist())
    for scale, own in zip(different.tolist(), members, strict=True):
        for group in grouped(own.tolist(), size):
            batches.append(PlannedBatch(len(batches), (group,), len(group), scale))
    return tuple(batches)
