"""Does the step draw random numbers, so that its loss is one of many?"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import torch

from lightning_hessian.data import FrozenBatches
from lightning_hessian.fit.groups import Open
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.processes import any_process, on_all_or_none
from lightning_hessian.records import Note

LIMIT = {torch.float32: 1e-5, torch.float64: 1e-10}
"""Of a loss, by which kernels may differ from call to call."""
PASSES = 2 / 3
"""Gradients of one batch that looking for noise comes to."""
NOISY = Note(
    "noisy-step",
    "The step draws random numbers (reparametrisation, dropout, noise of a diffusion, mixup): the "
    "loss is its mean over one draw for each batch. Sampling errors, and with them the intervals "
    "of the largest eigenvalue and the trace, hold the scatter of the draws, also where all "
    "samples are measured: read off several draws of some batches, or, where these cost too much, "
    "with that of the samples off the scatter of three or more batches. Negative share, smallest "
    "eigenvalues and density are of these draws, which spread the bulk.",
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
