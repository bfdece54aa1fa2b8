"""An averaging of weights, and what it would save after each step."""

from __future__ import annotations

import copy
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor


def averaging(*, decay: float = 0.5, **options: Any) -> EMAWeightAveraging:
    """An exponential moving average that moves fast."""
    return EMAWeightAveraging(decay=decay, **options)


class Averages(pl.Callback):
    """Keeps the average of a callback before it after each step."""

    def __init__(self, averager: pl.Callback) -> None:
        self.averager = averager
        self.states: dict[int, dict[str, Tensor]] = {}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        content = {"state_dict": pl_module.state_dict()}
        self.averager.on_save_checkpoint(trainer, pl_module, content)
        self.states[trainer.global_step] = copy.deepcopy(content["state_dict"])
