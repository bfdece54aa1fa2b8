"""Which weights a fit is at."""

from __future__ import annotations

from itertools import chain

import torch
from lightning.pytorch import Trainer
from torch import nn

from lightning_hessian.sandbox import sum_of_bits

Fingerprint = tuple[int, ...]
"""The step, and a sum of the bits of each tensor of a module."""


def fingerprint(trainer: Trainer, module: nn.Module) -> Fingerprint:
    """The step and a sum of each tensor's bits, as these may change at the same step.

    Parameters are exchanged (averaging of weights), and buffers move with every batch of an
    accumulation: running statistics, on which the loss depends.
    """
    sums = (
        sum_of_bits(tensor)
        for tensor in chain(module.parameters(), module.buffers())
        if tensor.layout == torch.strided and not nn.parameter.is_lazy(tensor)
    )
    return (trainer.global_step, *sums)
