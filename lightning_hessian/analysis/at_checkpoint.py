"""Any study of the training loss, at the weights of a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeVar

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from lightning_hessian.analysis.files import find_checkpoints, read_checkpoint
from lightning_hessian.analysis.found_file import SEARCH
from lightning_hessian.analysis.idle_fit import default_trainer, run_idle_fit
from lightning_hessian.analysis.loading import load_checkpoint
from lightning_hessian.errors import (
    InterruptedMeasurementError,
    RefusedError,
    UnreadableCheckpointError,
)
from lightning_hessian.fit import FitLoss
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.options import Loss, LossSetup, check_choice, refuse_auto_samples
from lightning_hessian.records import Mode, Weights

T = TypeVar("T")


def at_checkpoint(
    study: Callable[[TrainingLoss], T],
    model: LightningModule,
    checkpoint: str | os.PathLike[str],
    *,
    datamodule: LightningDataModule | None = None,
    dataloaders: Any = None,
    weights: Weights = "current",
    num_samples: int | Literal["all"] | None = None,
    mode: Mode = "eval",
    loss: Loss = Loss(),  # noqa: B008
    seed: int = 0,
    trainer: Trainer | None = None,
    weights_only: bool = True,
) -> T:
    """Ask a question about the training loss at the weights of a checkpoint.

    For what has no callback: the studies of :mod:`lightning_hessian.studies`, or a function of your
    own of the loss, its gradient and its products. The checkpoint is loaded into a fit that takes
    no step, as by :func:`~lightning_hessian.analyze`; module and files are left as they are.

    Costs what the study costs, after some four gradients over the samples.

    Args:
        study: Called with the loss, which is not to be used afterwards.
        model: Of the class that was trained.
        checkpoint: Of a training.
        datamodule: Whose training set the loss is measured on.
        dataloaders: Training loader, in place of a datamodule.
        weights: "current", those that the optimiser moves, or "averaged", of a weight averaging.
        num_samples: Training samples that the loss averages, drawn once; None for 2,048; "all" for
            the whole set.
        mode: "eval" (dropout off, running statistics) or "train" (fixed masks, batch statistics).
        loss: Which loss, by which parameters, on which batches, in which arithmetic.
        seed: Of the samples and of random numbers inside the step.
        trainer: A fresh one with the accelerator to use, of one process; its callbacks stand aside.
        weights_only: Refuse files that hold more than tensors and primitives, since unpickling runs
            code. Give False only for files that you trust.

    Returns:
        What the study returns.

    Raises:
        ValueError: If an argument is out of its range.
        RefusedError: If there are several processes, or the loss cannot be measured.
        UnreadableCheckpointError: If the checkpoint cannot be read, or is of another module.

    Example:
        How large is the residual part of a Hessian at the end of a training?

        >>> import tempfile
        >>> import torch
        >>> from lightning.pytorch import LightningModule, Trainer
        >>> from lightning_hessian import at_checkpoint
        >>> from lightning_hessian.studies import gauss_newton_split
        >>> class Line(LightningModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.line = torch.nn.Linear(1, 1)
        ...     def training_step(self, batch, batch_idx):
        ...         return torch.nn.functional.mse_loss(self.line(batch), 2 * batch)
        ...     def configure_optimizers(self):
        ...         return torch.optim.SGD(self.parameters(), lr=0.1)
        >>> quiet = dict(accelerator="cpu", logger=False, max_epochs=1, enable_checkpointing=False,
        ...              enable_progress_bar=False, enable_model_summary=False)
        >>> data = torch.utils.data.DataLoader(torch.randn(8, 1), batch_size=8)
        >>> trainer, path = Trainer(**quiet), f"{tempfile.mkdtemp()}/last.ckpt"
        >>> trainer.fit(Line(), data)
        >>> trainer.save_checkpoint(path)
        >>> generator = torch.Generator().manual_seed(0)
        >>> split = at_checkpoint(
        ...     lambda loss: gauss_newton_split(loss, generator=generator),
        ...     Line(), path, dataloaders=data, trainer=Trainer(**quiet),
        ... )
        >>> split.residual_share.value < 1e-6  # none: the outputs are linear in the weights
        True
    """
    setup = loss_setup("at_checkpoint", loss, num_samples, mode, seed)
    return with_loss_at(
        lambda loss, _content: study(loss),
        model,
        one_checkpoint(checkpoint),
        # a study may ask for training's own batches
        setup=replace(setup, step_batches=True),
        datamodule=datamodule,
        dataloaders=dataloaders,
        weights=weights,
        trainer=trainer,
        weights_only=weights_only,
    )


def one_checkpoint(checkpoint: str | os.PathLike[str]) -> str:
    """The one file that is meant.

    Args:
        checkpoint: A file, or a folder or pattern of one.

    Returns:
        Its path.

    Raises:
        ValueError: If there are several.
    """
    found = find_checkpoints(checkpoint)
    if len(found) > 1:
        raise ValueError(
            f"`checkpoint` must name one file, got {os.fspath(checkpoint)!r}, which has "
            f"{len(found)}: {', '.join(found[:3])}{' ...' if len(found) > 3 else ''}."
        )
    return found[0]


def loss_setup(
    owner: str, loss: Loss, num_samples: int | Literal["all"] | None, mode: Mode, seed: int
) -> LossSetup:
    """The same for all that is asked at checkpoints.

    Args:
        owner: Whose arguments they are.
        loss: Which.
        num_samples: Of the training set.
        mode: In which.
        seed: Of the samples.

    Returns:
        The setup.

    Raises:
        ValueError: If an argument is out of its range.
    """
    refuse_auto_samples(owner, num_samples)
    if loss.weights != "current":
        raise ValueError(
            f"`loss` must leave to `{owner}` which weights of a file are meant, got one with "
            f"`Loss(weights={loss.weights!r})`. Give `{owner}(..., weights='averaged')`."
        )
    return LossSetup(loss=loss, num_samples=num_samples, mode=mode, seed=seed, reads_scatter=False)


def with_loss_at(
    use: Callable[[TrainingLoss, Mapping[str, Any]], T],
    model: LightningModule,
    checkpoint: str,
    *,
    setup: LossSetup,
    datamodule: LightningDataModule | None,
    dataloaders: Any,
    weights: Weights,
    trainer: Trainer | None,
    weights_only: bool,
) -> T:
    """What a function makes of the loss at a checkpoint, and of what is in the file.

    Args:
        use: The function.
        model: Of the class that was trained.
        checkpoint: The file.
        setup: Of the loss.
        datamodule: With the training set.
        dataloaders: In place of it.
        weights: Which of those in the file.
        trainer: A fresh one; None for the usual.
        weights_only: Whether to refuse files whose reading runs code.

    Returns:
        What it returns.

    Raises:
        ValueError: If both a datamodule and loaders are given, or weights that are none.
    """
    check_choice("weights", weights, ("current", "averaged"))
    if datamodule is not None and dataloaders is not None:
        raise ValueError("`datamodule` and `dataloaders` exclude each other; give one of them.")
    at = _At(checkpoint, weights, weights_only, setup)
    found: list[T] = []

    def visit(trainer: Trainer, module: LightningModule, _restore: Callable[[], None]) -> None:
        found.append(at.run(trainer, module, use))

    run_idle_fit(
        visit,
        trainer or default_trainer(model, logger=False),
        model,
        datamodule=datamodule,
        dataloaders=dataloaders,
        shows_progress=False,
    )
    return found[0]


@dataclass(frozen=True, slots=True)
class _At:
    """The weights of a file, and the loss that is meant."""

    path: str
    weights: Weights
    weights_only: bool
    setup: LossSetup

    def run(
        self,
        trainer: Trainer,
        module: LightningModule,
        use: Callable[[TrainingLoss, Mapping[str, Any]], T],
    ) -> T:
        """Load, open the loss, and use it."""
        if trainer.world_size > 1:
            raise RefusedError(
                f"`trainer` must have one process here, got {trainer.world_size}. Give one with "
                "`devices=1`."
            )
        content = self._loaded(trainer, module)
        poll = partial(_poll, trainer)
        fit = FitLoss(self.setup, trainer, module, poll=poll, trains=False)
        fit.remember_flags()
        if not fit.sample.is_ready:
            raise RefusedError(
                "samples must be such that can be fetched by their numbers; of a stream they come "
                "by in training only. Give `loss=Loss(dataloader=...)`."
            )
        try:
            with fit.opened() as loss:
                return use(loss, content)
        finally:
            fit.close()

    def _loaded(self, trainer: Trainer, module: LightningModule) -> dict[str, Any]:
        """The content of the file, put into the module."""
        try:
            content = read_checkpoint(self.path, weights_only=self.weights_only)
            mode = self.setup.mode
            # what a search has found stands in for all other weights
            weights: Weights = "current" if SEARCH in content else self.weights
            load_checkpoint(content, trainer, module, weights=weights, mode=mode)
        except UnreadableCheckpointError as error:
            raise UnreadableCheckpointError(
                f"`checkpoint` must be one of this module that can be read, got {self.path}: "
                f"{error}."
            ) from error
        return content


def _poll(trainer: Trainer) -> None:
    """End where the process is told to end."""
    if trainer.received_sigterm:
        raise InterruptedMeasurementError("SIGTERM arrived during the measurement")
