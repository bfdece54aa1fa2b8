"""The samples of batches in other batches: in halves, or with half of another batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from lightning_hessian.data import FrozenBatch
from lightning_hessian.sample_losses.joining import joined
from lightning_hessian.sample_losses.rows import rows_of


def halved(batch: FrozenBatch) -> tuple[FrozenBatch, FrozenBatch]:
    """A batch as two random halves; of three samples or less, the second one counts for nothing.

    So that each process has as many halves as the others, and batch statistics have two samples.

    Raises:
        RefusedError: If it is not certain what belongs to a sample.
    """
    count = batch.num_samples
    if count < 4:
        return batch, replace(batch, weight=0)
    first, second = (rows_of(batch, half) for half in _random_halves(batch))
    if batch.is_repeat:
        return replace(first, weight=0), replace(second, weight=0)
    return first, second


def exchanged(batches: Sequence[FrozenBatch]) -> tuple[FrozenBatch, ...] | None:
    """Each batch has given a random half of its samples to the next one; sizes stay as they are.

    Batches of another size than the first stay themselves, and so does what counts for nothing.

    Returns:
        The batches; None where there is nothing to exchange, or what there is does not fit.

    Raises:
        RefusedError: If it is not certain what belongs to a sample.
    """
    count, found = batches[0].num_samples, list(batches)
    ring = [i for i, b in enumerate(batches) if b.num_samples == count and not b.is_repeat]
    # samples of batches with weights of their own do not count alike
    if count < 2 or len(ring) < 2 or any(batches[i].weight != count for i in ring):
        return None
    for before, here in zip([ring[-1], *ring[:-1]], ring, strict=True):
        both = joined([batches[here], batches[before]])
        if both is None:
            return None
        # of an odd number the larger half stays
        stay, come = _random_halves(batches[here])[0], _random_halves(batches[before])[1]
        found[here] = rows_of(both, [*stay, *(count + row for row in come)])
    return tuple(found)


def _random_halves(batch: FrozenBatch) -> list[list[int]]:
    """Rows of either half, in their order; the first one is the larger."""
    order = torch.randperm(batch.num_samples, generator=torch.Generator().manual_seed(batch.index))
    return [sorted(half.tolist()) for half in order.tensor_split(2)]
