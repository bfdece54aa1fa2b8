"""Which weights a fit is at, and how long it is to go on."""

from __future__ import annotations

import math
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


def planned_batches(trainer: Trainer) -> float:
    """How many batches each process is still to train on, as far as the Trainer was told.

    Infinity for a fit without an end. A stop by the clock, by a metric or by the user is not
    foreseen.
    """
    by_epochs = by_steps = math.inf
    if trainer.max_epochs not in (None, -1):
        by_epochs = trainer.num_training_batches * (trainer.max_epochs - trainer.current_epoch)
    if trainer.max_steps != -1:
        by_steps = (trainer.max_steps - trainer.global_step) * trainer.accumulate_grad_batches
    return min(by_epochs, by_steps)
