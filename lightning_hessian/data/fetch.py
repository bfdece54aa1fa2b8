"""The samples of a plan, fetched so that each is the same whoever fetches it, and when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lightning_hessian.data.frozen import FrozenBatch, FrozenBatches
from lightning_hessian.data.plan import BatchPlan, TrainingData
from lightning_hessian.data.weights import WeightFunction, weight_by


def fetch_batches(
    plan: BatchPlan,
    *,
    reset: Callable[[int], None],
    reseed: Callable[[int], None],
    share: tuple[int, int] = (0, 1),
    weight_fn: WeightFunction | None = None,
) -> FrozenBatches:
    """Fetch the samples of a plan, or of a process's share of it, and collate them.

    Every batch is fetched from the same state (``reset(batch index)``), and every sample after its
    own ``reseed(sample number)``: random augmentation gives the same sample whatever the batch size
    and whoever fetches it, at every measurement and after a resume. Batch ``b`` belongs to rank
    ``b % number``.
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
        elif planned.scale != 1:
            weight *= planned.scale
        frozen.append(FrozenBatch(batch, weight, planned.index, planned.weight))
    suffix = "" if weight_fn is None else ", weighted by `weight_fn`"
    return FrozenBatches(
        tuple(frozen),
        sum(planned.weight for planned in own),
        plan.description + suffix,
        are_drawn=True,
        population=plan.population,
        most=plan.most,
        may_be_weighed=plan.may_be_weighed,
    )


def _collated(
    data: TrainingData, group: Sequence[int], first_number: int, reseed: Callable[[int], None]
) -> Any:
    if data.takes_lists:
        reseed(first_number + group[0])
        return data.collate(data.dataset[list(group)])
    samples = []
    for index in group:
        reseed(first_number + index)
        samples.append(data.dataset[index])
    return data.collate(samples)
