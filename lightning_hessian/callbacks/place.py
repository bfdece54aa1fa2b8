"""Where a fit is."""

from __future__ import annotations

from itertools import chain

import torch
from lightning.pytorch import Trainer
from torch import nn

from lightning_hessian.objective.sharing import sum_of_bits


def place(trainer: Trainer, module: nn.Module) -> tuple[int, ...]:
    """The step and a sum of each tensor's bits, as these may change at the same step.

    Parameters are exchanged (averaging of weights), and buffers move with every batch of an
    accumulation: running statistics, on which the loss depends.

    Args:
        trainer: Running the fit.
        module: Attached to it.

    Returns:
        Equal for equal parameters and buffers at the same step.
    """
    sums = (
        sum_of_bits(tensor)
        for tensor in chain(module.parameters(), module.buffers())
        if tensor.layout == torch.strided and not nn.parameter.is_lazy(tensor)
    )
    return (trainer.global_step, *sums)
