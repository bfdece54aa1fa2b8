"""The callback of loss differences, cheap, and what it should find."""

from __future__ import annotations

import copy
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from lightning_hessian import LossDifference
from tests.helpers.fitting import classification_data


def difference(**options: Any) -> LossDifference:
    """The losses alone, all that is due, and errors raised, unless told otherwise."""
    defaults = {"derivatives": False, "max_overhead": None, "on_error": "raise"}
    return LossDifference(**(defaults | options))


def losses_alone(module: pl.LightningModule, dataset: Any = None) -> Tensor:
    """The loss of each sample in a batch of its own, in eval mode and float64."""
    own = copy.deepcopy(module).double().eval()
    own.log = lambda *_, **__: None  # type: ignore[method-assign,assignment]
    samples = dataset or classification_data()
    with torch.no_grad():
        losses = [
            own.training_step((inputs[None].double(), target[None]), 0)
            for inputs, target in samples
        ]
    return torch.stack(losses)


class LossesAlone(pl.Callback):
    """Notes the losses of all samples at the start and at the end of a fit."""

    def __init__(self, dataset: Any = None) -> None:
        self.dataset, self.found = dataset, []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.found.append(losses_alone(pl_module, self.dataset))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.found.append(losses_alone(pl_module, self.dataset))
