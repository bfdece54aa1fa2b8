"""Constructions whose second derivative autograd leaves out in silence, found in a loss's graph."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_hessian.errors import NoExactProductsError
from lightning_hessian.loss import TrainingLoss, node_names, once_differentiable_functions


def refuse_silent_errors(loss: TrainingLoss) -> int | None:
    """Search the loss's graph for constructions whose second derivative is silently missing.

    Those are reentrant checkpointing, and functions that are differentiable once only. Costs one
    gradient of the first batch that has a loss; gives its index, None where no batch has one.
    """
    index, scalar = first_loss(loss)
    if index is None or scalar is None:
        return None
    if any("CheckpointFunction" in name for name in node_names([scalar])):
        raise NoExactProductsError(
            "the loss uses reentrant activation checkpointing, through which autograd gives no "
            "second derivative (it would silently count those parameters as zero). Use "
            "`torch.utils.checkpoint.checkpoint(..., use_reentrant=False)`."
        )
    tensors = loss.parameters.tensors
    marked = once_differentiable_functions(scalar, tensors)
    first = torch.autograd.grad(scalar, tensors, create_graph=True, allow_unused=True)
    names = node_names(g for g in first if g is not None)
    if marked or names & {"Error", "NotImplemented"}:
        culprit = f"`{', '.join(sorted(marked))}`" if marked else "an operation"
        raise NoExactProductsError(
            f"the loss uses {culprit}, which is differentiable once only (`once_differentiable`, "
            "or no derivative of its backward): its part of the Hessian would be missing in "
            "silence. Write that backward in differentiable operations, or leave the parameters "
            "behind it out by `parameters=`."
        )
    return index


def first_loss(loss: TrainingLoss) -> tuple[int, Tensor] | tuple[None, None]:
    """The first batch that has a loss to differentiate, and that loss."""
    for index, batch in enumerate(loss.sample.batches):
        scalar = loss.evaluate(batch)
        if scalar is not None and scalar.requires_grad:
            return index, scalar
    return None, None
