"""The frozen samples in fewer, larger batches than the training's, in which others meet."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_hessian.data import FrozenBatch
from lightning_hessian.errors import RefusedError
from lightning_hessian.loss import TrainingLoss, graph_bytes
from lightning_hessian.processes import any_process
from lightning_hessian.sample_losses.joining import joined
from lightning_hessian.sample_losses.one_by_one import Positions
from lightning_hessian.sample_losses.rows import rows_of

MOST_JOINED = 16
"""Batches of the training in one group, where their graph has room."""
LARGEST_GRAPH = 2**25
"""Bytes that a group's graph may hold: in larger ones each sample takes longer, not shorter."""


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


class GraphSize:
    """Told the losses of batches with their graphs, finds out how many there is room for in one.

    Only the first is looked at, as the others are like it.
    """

    def __init__(self, loss: TrainingLoss) -> None:
        self._loss = loss
        self._num_joined: int | None = None

    def see(self, output: Tensor) -> None:
        """The loss of a frozen batch."""
        if self._num_joined is not None:
            return
        try:
            size = graph_bytes([output], self._loss.parameters.tensors)
        except RuntimeError:  # a graph that the step has used up
            size = LARGEST_GRAPH
        self._num_joined = max(1, min(MOST_JOINED, LARGEST_GRAPH // max(size, 1)))

    def num_joined(self) -> int:
        """Batches to be joined, the same on all processes; 1 where that saves no calls."""
        loss = self._loss
        count = len(loss.sample.batches)
        own = torch.full((1,), self._num_joined or 1, device=loss.processes.device)
        joint = int(loss.processes.sum(own.double())) // loss.processes.size
        return joint if 2 * math.ceil(count / (2 * joint)) < count else 1


def regrouped(loss: TrainingLoss, positions: Positions, num_joined: int) -> list[Group] | None:
    """One random half of each of some batches in one group, the other halves in another.

    So about every second pair of samples that share a batch of the training do not share a group,
    whose random numbers are others too: what a sample has in both is its own.

    Args:
        loss: Whose frozen batches they are.
        positions: Of their samples.
        num_joined: How many batches a group is as large as.

    Returns:
        On each process equally many; None where batches cannot be joined.
    """
    own, stride = loss.sample.batches, 2 * num_joined
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
