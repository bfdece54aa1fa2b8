"""Does the step draw random numbers, so that its loss is one of many?"""

from __future__ import annotations

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
    "of the largest eigenvalue and the trace, are read off the scatter of three or more batches, "
    "which holds that of the draws and that of the samples, also where all samples are measured.",
)


def is_noisy(open_loss: Open, frozen: FrozenBatches) -> bool:
    """Whether a batch has another loss by other random numbers.

    Costs two forward passes of the first batch.
    """
    with open_loss(frozen) as loss:
        differs = on_all_or_none(loss.processes, partial(_differs, loss))
        return any_process(loss.processes, differs)


def _differs(loss: TrainingLoss) -> bool:
    batch = loss.sample.batches[0]
    one, other = (loss.evaluate(batch, seed=seed) for seed in (batch.index, batch.index + 1))
    if one is None or other is None:
        return one is not other
    distance = float((one - other).detach().abs())
    return distance > LIMIT[loss.dtype] * float(one.detach().abs())
