"""Which loss of a Lightning module is measured."""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule, Trainer

from lightning_hessian.errors import RefusedError
from lightning_hessian.loss.manual_optimization import ManualBackwardLoss
from lightning_hessian.loss.training_step import TrainingStep

OWN_LOSS = "hessian_loss"
"""A method ``(batch, batch_idx)`` by which a module says which loss it means."""


def module_loss(
    module: LightningModule,
    trainer: Trainer,
    dtype: torch.dtype,
    loss: str | int | None = None,
    *,
    are_transferred: bool = False,
) -> TrainingStep | ManualBackwardLoss:
    """Find the loss that a user means.

    Args:
        module: Attached to ``trainer``.
        trainer: Running a fit.
        dtype: Of the measurement.
        loss: The name of a method of the module; the number of a ``manual_backward`` call; or None
            for ``hessian_loss`` where the module defines it, and else the loss of its
            ``training_step``.
        are_transferred: Whether the batches went through conversion and hooks already.

    Raises:
        RefusedError: If there is no such method, or no manual optimisation.
    """
    if loss is None and hasattr(module, OWN_LOSS):
        loss = OWN_LOSS
    method = loss if isinstance(loss, str) else None
    step = TrainingStep(module, trainer, dtype, method=method, are_transferred=are_transferred)
    if isinstance(loss, str):
        return step
    if not module.automatic_optimization:
        return ManualBackwardLoss(step, module, trainer, number=loss)
    if loss is not None:
        raise RefusedError(
            "`loss` may be the number of a `manual_backward` call only where a module optimises by "
            f"hand, got {loss} for {type(module).__name__} with `automatic_optimization=True`. "
            "Give None, or the name of a method."
        )
    return step
