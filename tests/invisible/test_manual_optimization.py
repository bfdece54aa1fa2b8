"""A run that optimises by hand is bit-identical with the callbacks, too."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor

from tests.helpers.adversarial import Accumulates, DoesEverything
from tests.helpers.fitting import classification_data, loader
from tests.helpers.hostile import WIDTH, HostileModule
from tests.helpers.recording import differences, run, spectrum

SLOW = pytest.mark.slow


class Anneals(DoesEverything):
    """Also resets its moments at times, and keeps the last gradient norms and an average."""

    def __init__(self) -> None:
        super().__init__()
        self.norms: list[float] = []
        self.average = [p.detach().clone() for p in self.generator.parameters()]

    def training_step(self, batch: Any, batch_idx: int) -> None:
        super().training_step(batch, batch_idx)
        self.norms += [float(p.grad.norm()) for p in self.generator.parameters()]
        for mean, p in zip(self.average, self.generator.parameters(), strict=True):
            mean.mul_(0.9).add_(0.1 * p.detach())
        if batch_idx == 2:
            self.optimizers()[1].state.clear()


class HostileByHand(HostileModule):
    """Two optimisers over a module that changes whatever it can reach, with an adversary."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.automatic_optimization = False
        self.adversary = torch.nn.Linear(WIDTH, 3)

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        first, second = self.optimizers()
        first.param_groups = first.param_groups  # as some wrappers of optimisers do
        inputs = batch["x"].clone()
        with self.toggled_optimizer(first):
            self.manual_backward(super()._loss_of(batch, batch_idx))
            if (batch_idx + 1) % 2 == 0:
                self.clip_gradients(first, 0.5, "value")
                first.step()
                first.zero_grad()
        with self.toggled_optimizer(second):
            second.zero_grad()
            self.manual_backward(self._adversarial(inputs))
            second.step()

    def _adversarial(self, inputs: Tensor) -> Tensor:
        return (self.adversary(inputs) - self.head(self.body(inputs)).detach()).square().mean()
