"""The loss of samples alone, and where each stands among those of all processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from lightning_hessian.data import FrozenBatch
from lightning_hessian.errors import RefusedError
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.processes import on_all_or_none
from lightning_hessian.sample_losses.filling import Filling


@dataclass(frozen=True, slots=True)
class Positions:
    """Where the samples of each frozen batch stand among those of all processes.

    Attributes:
        sizes: Samples of each batch, by its index.
        first: Position of the first of them.
    """

    sizes: tuple[int, ...]
    first: tuple[int, ...]

    @classmethod
    def of(cls, loss: TrainingLoss) -> Positions:
        """Find out from all processes, which have equally many batches; the same on each."""
        processes, own = loss.processes, loss.sample.batches
        sizes = on_all_or_none(
            processes, lambda: _sizes(own, len(own) * processes.size, loss.device)
        )
        counts = [int(size) for size in processes.sum(sizes).tolist()]
        return cls(tuple(counts), tuple(accumulate([0, *counts[:-1]])))

    @property
    def num_samples(self) -> int:
        """Of all batches."""
        return sum(self.sizes)

    def rows(self, batch: FrozenBatch) -> slice:
        """The positions of a batch's samples; none for a repeat of another batch."""
        start = self.first[batch.index]
        return slice(start, start if batch.is_repeat else start + batch.num_samples)


def _sizes(batches: Sequence[FrozenBatch], length: int, device: torch.device) -> Tensor:
    sizes = torch.zeros(length, dtype=torch.float64, device=device)
    for batch in batches:
        if not batch.is_repeat:
            sizes[batch.index] = batch.num_samples
    return sizes


def loss_of(loss: TrainingLoss, batch: FrozenBatch, *, seed: int | None = None) -> float:
    """The loss of a batch as a finite number; refused where training would skip the batch."""
    value = loss.evaluate(batch, seed=seed)
    if value is None:
        raise RefusedError(
            f"the step returns None for {batch.num_samples} of the samples of frozen batch "
            f"{batch.index}, so that these have no loss. Define `hessian_loss(self, batch, "
            "batch_idx)`, returning the loss of any batch."
        )
    return float(value.detach())


def losses_alone(loss: TrainingLoss, batch: FrozenBatch, filling: Filling) -> Iterator[float]:
    """The loss of each sample of a frozen batch alone, in their order."""
    for row in range(batch.num_samples):
        yield loss_of(loss, filling.some_of(batch, [row]))
