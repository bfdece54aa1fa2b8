"""Where a fit is."""

from __future__ import annotations

import torch
from lightning.pytorch import Trainer
from torch import nn

from lightning_hessian.objective.sharing import sum_of_bits


def place(trainer: Trainer, module: nn.Module) -> tuple[int, ...]:
    """The step and a sum of each parameter's bits, as weights may be exchanged at the same step.

    Args:
        trainer: Running the fit.
        module: Attached to it.

    Returns:
        Equal for equal weights at the same step.
    """
    sums = (
        sum_of_bits(parameter)
        for parameter in module.parameters()
        if parameter.layout == torch.strided and not nn.parameter.is_lazy(parameter)
    )
    return (trainer.global_step, *sums)
