"""Does the step draw random numbers, so that its loss is one of many?"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import torch

from lightning_hessian.data import FrozenBatch, FrozenBatches
from lightning_hessian.fit.groups import NUM_GROUPS, Open, may_regroup
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.options import LossSetup
from lightning_hessian.processes import any_process, on_all_or_none
from lightning_hessian.records import Note
from lightning_hessian.sample_losses import failure_on, samples_keep_losses

LIMIT = {torch.float32: 1e-5, torch.float64: 1e-10}
"""Of a loss, by which kernels may differ from call to call."""
PASSES = 2 / 3
"""Gradients of one batch that looking for noise comes to."""
ONE_PASS = 1 / 3
"""Gradients of the samples that one pass over them comes to."""
NOISY = Note(
    "noisy-step",
    "The step draws random numbers: the loss is its mean over draws, measured under one for each "
    "batch. The errors of the largest eigenvalue and the trace hold the scatter of the draws; "
    "smallest eigenvalues, density and negative share are of these draws, which spread the bulk.",
)
FIXED = Note(
    "noise-fixed",
    "The step draws random numbers, and by `noise='fixed'` the loss is that under one draw for "
    "each batch, always the same: errors hold nothing of other draws.",
)
FEW_BATCHES = 8
"""Of which other draws are looked at."""
FREEDOM = 6
"""Degrees of freedom of a variance over draws, with which Student's t is 2.4."""
SHARE = 10
"""Samples of which more than one in so many are measured: of fewer, the scatter of batches holds
both that of samples and that of draws."""


def is_noisy(open_loss: Open, frozen: FrozenBatches) -> bool:
    """Whether a batch has another loss by other random numbers.

    Costs two forward passes of the first batch.
    """
    with open_loss(frozen) as loss:
        differs = on_all_or_none(loss.processes, partial(_differs, loss))
        return any_process(loss.processes, differs)


def smaller_groups(
    setup: LossSetup, open_loss: Open, frozen: FrozenBatches, trained: int | None
) -> int | None:
    """Samples to a group, so that there are enough groups for errors; None to leave the batches.

    By random numbers two ways to deal the samples cannot be compared; but samples may be seen to
    have the same losses in the same seats of a batch, with others about them. Costs two forward
    passes of the first batch, and one of a group; a step may take no odd number of samples.
    """
    size = math.ceil(frozen.num_samples / NUM_GROUPS)
    if trained is None or not may_regroup(setup) or size >= trained:
        return None
    with open_loss(frozen) as loss:
        batch = loss.sample.batches[0]
        if not samples_keep_losses(loss, batch, "mean"):
            return None
        sizes = range(size, min(size + 2, trained))
        return next((each for each in sizes if _takes(loss, batch, each)), None)


def _takes(loss: TrainingLoss, batch: FrozenBatch, size: int) -> bool:
    rows = range(min(size, batch.num_samples))
    return failure_on(loss, batch, rows) is None


def redraws(frozen: FrozenBatches, num_processes: int) -> tuple[FrozenBatches, ...]:
    """Some of the batches under several other draws, or none where their scatter is enough."""
    population = frozen.population
    if population is None or SHARE * frozen.num_samples < population:
        return ()
    some = frozen.batches[: math.ceil(FEW_BATCHES / num_processes)]
    count = 1 + math.ceil(FREEDOM / (len(some) * num_processes))
    num_samples = sum(batch.num_samples for batch in some)
    return tuple(
        replace(
            frozen,
            batches=tuple(replace(batch, draw=draw) for batch in some),
            num_samples=num_samples,
            population=None,
        )
        for draw in range(1, 1 + count)
    )


def _differs(loss: TrainingLoss) -> bool:
    batch = loss.sample.batches[0]
    one, other = (loss.evaluate(batch, seed=seed) for seed in (batch.index, batch.index + 1))
    if one is None or other is None:
        return one is not other
    distance = float((one - other).detach().abs())
    return distance > LIMIT[loss.dtype] * float(one.detach().abs())
