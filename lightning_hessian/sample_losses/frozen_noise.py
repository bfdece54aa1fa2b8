"""The losses of samples under a step that draws random numbers, each with a draw of its own."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from lightning_hessian.data import FrozenBatch
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.processes import any_process, on_all_or_none
from lightning_hessian.records import Separability
from lightning_hessian.sample_losses.filling import AS_IT_IS
from lightning_hessian.sample_losses.one_by_one import Positions
from lightning_hessian.sample_losses.reading import read, read_off
from lightning_hessian.sample_losses.regrouped import as_frozen
from lightning_hessian.sample_losses.separability import tolerance


def losses_with_noise(
    loss: TrainingLoss, positions: Positions
) -> tuple[Separability, Tensor] | None:
    """Read each sample's loss off its batch, under the draw that stands in its seat there.

    A sample alone would draw other numbers than in its batch, and could not be compared. But a
    batch of as many samples draws the same ones: where some samples keep their seats and copies of
    them take those of the others, each that stayed must have the same loss. So it is with noise
    that is drawn for each sample, or for the batch; not where a draw mixes samples.

    Costs two passes over the samples without derivatives.

    Returns:
        How samples make up a batch, and their losses ``(N,)``; None where they cannot be read off
        a batch, or are not those of the samples alone.
    """
    kinds: tuple[Separability, ...] = ("mean", "sum")
    for separability in kinds:
        values = read_with_noise(loss, positions, separability)
        if values is not None:
            break
    else:
        return None
    keep = (samples_keep_losses(loss, batch, separability) for batch in loss.sample.batches)
    return (separability, values) if all(keep) else None


def read_with_noise(
    loss: TrainingLoss, positions: Positions, separability: Separability | None
) -> Tensor | None:
    """The losses ``(N,)`` by one pass; None where a batch is not made of what is read off it."""
    return read(
        loss,
        as_frozen(loss, positions),
        positions.num_samples,
        method="batched",
        separability=separability,
        is_trial=True,
    ).values


def samples_keep_losses(
    loss: TrainingLoss, batch: FrozenBatch, separability: Separability | None
) -> bool:
    """Whether samples have the same losses in their seats of a batch with others about them."""
    changed = on_all_or_none(loss.processes, partial(_have_changed, loss, batch, separability))
    return not any_process(loss.processes, changed)


def _have_changed(
    loss: TrainingLoss, batch: FrozenBatch, separability: Separability | None
) -> bool:
    count = batch.num_samples
    generator = torch.Generator().manual_seed(batch.index)
    order = torch.randperm(count, generator=generator)
    # an odd number, so that not all who stay are partners in pairs that a draw may mix
    half = count // 2
    num_staying = max(half - (half + 1) % 2, 1)
    stay, go = order[:num_staying], order[num_staying:]
    seats = torch.arange(count)
    seats[go] = stay[torch.randint(len(stay), (len(go),), generator=generator)]
    found = [
        read_off(loss, b, seed=batch.index, separability=separability, is_trial=True)[0]
        for b in (batch, AS_IT_IS.some_of(batch, seats.tolist()))
    ]
    one, other = (None if losses is None else losses[stay.to(losses.device)] for losses in found)
    if one is None or other is None:
        return True
    return float((one - other).abs().max()) > tolerance(loss.dtype, float(one.abs().max()))
