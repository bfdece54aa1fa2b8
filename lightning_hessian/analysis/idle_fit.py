"""A fit that takes no step: all is set up as for training, and then something else is done."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from typing_extensions import override

from lightning_hessian.callbacks import HostCallback
from lightning_hessian.sandbox import StateSnapshot

Visit = Callable[[Trainer, LightningModule, Callable[[], None]], None]
"""What is done; the last puts module and data back to what they were."""


def run_idle_fit(
    visit: Visit,
    trainer: Trainer,
    model: LightningModule,
    *,
    datamodule: LightningDataModule | None,
    dataloaders: Any,
    shows_progress: bool,
) -> None:
    """Begin a fit, do something in it, and end it before its first step.

    Setup, precision, strategy, loaders and the hooks that begin a fit are those of the training;
    callbacks and validation stand aside. Trainer and module are as before at the end.

    Args:
        visit: Called once, when the fit begins.
        trainer: A fresh one.
        model: To be trained.
        datamodule: With the training set.
        dataloaders: In place of it.
        shows_progress: Whether bars are shown.

    Raises:
        ValueError: If the fit ends before it begins.
    """
    host = _Idle(visit, shows_progress=shows_progress)
    before = {name: getattr(trainer, name) for name in ("callbacks", "limit_val_batches")}
    trainer.callbacks = [host]  # type: ignore[attr-defined]
    trainer.limit_val_batches = 0
    model.__dict__["configure_callbacks"] = list
    try:
        trainer.fit(model, train_dataloaders=dataloaders, datamodule=datamodule)
    finally:
        vars(trainer).update(before)
        del model.__dict__["configure_callbacks"]
    if not host.has_run:
        raise ValueError(
            "`trainer` ended its fit before it began: give a fresh one, with training batches and "
            "a `max_epochs` and `max_steps` above 0."
        )


def default_trainer(model: LightningModule, *, logger: bool = True) -> Trainer:
    """One device, float32; from the package that the module is of.

    There are two, with the same code.

    Args:
        model: To be set up.
        logger: Whether to write to TensorBoard.

    Returns:
        A fresh one.

    Raises:
        ValueError: If it is no LightningModule.
    """
    for base in type(model).__mro__:
        package, found, _ = base.__module__.partition(".core.")
        if base.__name__ == "LightningModule" and found:
            trainer: Trainer = importlib.import_module(package).Trainer(
                devices=1,
                max_epochs=1,
                log_every_n_steps=1,
                enable_checkpointing=False,
                enable_model_summary=False,
                logger=logger,
            )
            return trainer
    raise ValueError(f"`model` must be a LightningModule, got {type(model).__name__}.")


class _Idle(ProgressBar, HostCallback):
    """The Trainer's only callback, and its progress bar."""

    def __init__(self, visit: Visit, *, shows_progress: bool) -> None:
        super().__init__()
        self.has_run = False
        self.is_enabled = shows_progress
        self._visit = visit

    @override
    def disable(self) -> None:
        self.is_enabled = False

    @override
    def enable(self) -> None:
        self.is_enabled = True

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.has_run = True
        trainer.should_stop = True
        trainer.fit_loop.min_epochs, trainer.fit_loop.epoch_loop.min_steps = 0, None
        progress = copy.deepcopy(trainer.fit_loop.state_dict())
        before = StateSnapshot([pl_module], [trainer.datamodule])  # type: ignore[attr-defined]
        try:
            self._visit(trainer, pl_module, before.restore)
        finally:
            before.restore()
            trainer.fit_loop.load_state_dict(progress)
