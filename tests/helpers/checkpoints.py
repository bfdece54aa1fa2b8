"""Folders of checkpoints, and reports compared by all that is not time or place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from lightning_hessian import analyze
from lightning_hessian.records import Report
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.spectrum import spectrum

OF_THE_OCCASION = {
    "seconds",
    "overhead",
    "num_skipped",
    "gradient_seconds",
    "graph_bytes",
    "ckpt_path",
}


class ByEpochAndStep(Classifier):
    """Its loss depends on the epoch, on the step, and on what a hook makes of the epoch."""

    factor = 0.0

    def on_train_epoch_start(self) -> None:
        self.factor = 1 + 0.5 * self.current_epoch

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss * (1 + self.current_epoch + 0.1 * self.global_step) * self.factor


def fitted(
    folder: Path, module: pl.LightningModule, *callbacks: pl.Callback, **options: Any
) -> pl.Trainer:
    """A fit of two epochs of four steps that leaves a checkpoint after each third step."""
    defaults = {"dirpath": folder, "save_top_k": -1, "every_n_train_steps": 3}
    saver = ModelCheckpoint(**(defaults | options.pop("saver", {})))
    run = trainer(*callbacks, saver, enable_checkpointing=True, **({"max_epochs": 2} | options))
    run.fit(module, loader())
    return run


def analyzed(module: pl.LightningModule, checkpoints: Any, **options: Any) -> list[Any]:
    """The reports, cheap, quiet and with nothing written unless told otherwise."""
    defaults: dict[str, Any] = {
        "dataloaders": loader(),
        "sidecar": False,
        "verbose": False,
        "callback": spectrum(),
        "trainer": trainer(),
    }
    return analyze(module, checkpoints, **(defaults | options))


def numbers(report: Report) -> dict[str, str]:
    """All that a report says, to the last bit, without when and where it was made."""
    return {k: repr(v) for k, v in report.to_dict().items() if k not in OF_THE_OCCASION}
