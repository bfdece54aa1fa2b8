"""The frozen samples in fewer, larger batches than the training's, in which others meet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_hessian.data import FrozenBatch
from lightning_hessian.errors import RefusedError
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.processes import any_process
from lightning_hessian.sample_losses.one_by_one import Positions
from lightning_hessian.sample_losses.rows import joined, rows_of

LARGEST = 8
"""Batches of the training in one group: what memory is taken to have room for."""


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Samples that are evaluated together.

    Attributes:
        batch: Of these samples.
        positions: ``(m,)`` where they stand among all; empty where the group counts for nothing.
        seed: Of the step's random numbers.
    """

    batch: FrozenBatch
    positions: Tensor
    seed: int


def as_frozen(loss: TrainingLoss, positions: Positions) -> list[Group]:
    """The frozen batches themselves."""
    return [Group(batch, _standing(batch, positions), batch.index) for batch in loss.sample.batches]


def saves_calls(loss: TrainingLoss) -> bool:
    """Whether there are fewer groups than frozen batches; the same on all processes."""
    count = len(loss.sample.batches)
    return 2 * -(-count // (2 * LARGEST)) < count


def regrouped(loss: TrainingLoss, positions: Positions) -> list[Group] | None:
    """One random half of each of sixteen batches in one group, the other halves in another.

    So about every second pair of samples that share a batch of the training do not share a group,
    whose random numbers are others too: what a sample has in both is its own. On each process
    equally many; None where batches cannot be joined.
    """
    own, stride = loss.sample.batches, 2 * LARGEST
    found: list[Group] | None = []
    try:
        for start in range(0, len(own), stride):
            found += _two_sides(own[start : start + stride], positions)  # type: ignore[operator]
    except (_CannotJoin, RefusedError):
        found = None
    return None if any_process(loss.processes, found is None) else found


class _CannotJoin(Exception):
    """Batches that are made differently."""


def _two_sides(batches: Sequence[FrozenBatch], positions: Positions) -> Iterator[Group]:
    """Each side once, a batch that counts for nothing where there are no samples for it."""
    real = [batch for batch in batches if not batch.is_repeat]
    whole = joined(real) if real else None
    if real and whole is None:
        raise _CannotJoin
    sides: tuple[list[int], list[int]] = ([], [])
    first = 0
    for number, batch in enumerate(real):
        count = batch.num_samples
        order = torch.randperm(count, generator=torch.Generator().manual_seed(batch.index))
        # of an odd one the larger half goes to either side by turns
        half = (count + number % 2) // 2
        sides[0].extend((first + order[:half]).tolist())
        sides[1].extend((first + order[half:]).tolist())
        first += count
    seed = batches[0].index + 1
    standing = [_standing(batch, positions) for batch in real]
    for side in sides:
        if whole is not None and side:
            rows = sorted(side)
            yield Group(rows_of(whole, rows), torch.cat(standing)[rows], seed)
        else:
            yield Group(batches[0], torch.empty(0, dtype=torch.long), seed)


def _standing(batch: FrozenBatch, positions: Positions) -> Tensor:
    rows = positions.rows(batch)
    return torch.arange(rows.start, rows.stop)
