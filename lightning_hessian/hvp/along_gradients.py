"""The Hessian of each step's own loss along that loss's own gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lightning_hessian.data import FrozenBatch, StepBatches
from lightning_hessian.errors import RefusedError
from lightning_hessian.loss import Conductor, FirstDerivatives, TrainingLoss, second_derivatives
from lightning_hessian.processes import on_all_or_none


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AlongGradients:
    """Gradient ``g_s`` and Hessian ``H_s`` of the loss of each of ``S`` steps.

    All on the CPU in float64.

    Attributes:
        forms: ``(S,)`` ``g_s . H_s g_s``.
        squares: ``(S,)`` ``|g_s|^2``.
    """

    forms: Tensor
    squares: Tensor


def along_gradients(loss: TrainingLoss | Conductor, num_steps: int | None = None) -> AlongGradients:
    """Multiply the gradient of each step by the Hessian of the same step.

    A step's loss is the mean over its batches, as training has it: without weights, over those that
    gradients are accumulated over and over all processes. Steps that training would skip are left
    out. Where the loss knows of no steps, each frozen batch is one.

    Costs a gradient and a product over the samples of all steps: 3 sample gradients for each of
    them where a step is one batch, whose graph serves both; else 4.

    Args:
        loss: At the present parameters.
        num_steps: The first ones; None for all.

    Returns:
        A number of each step.

    Raises:
        RefusedError: If it is not known which batches a step takes, or products are differences of
            gradients.
    """
    if isinstance(loss.step_batches, RefusedError):
        raise loss.step_batches
    if loss.products.quality.method != "exact":
        raise RefusedError(
            "a step's Hessian along its gradient needs exact products, but those of this loss are "
            "differences of gradients. Measure a loss that can be differentiated twice."
        )
    rows = loss.run_on_all(partial(_along_gradients, num_steps=num_steps))
    return AlongGradients(forms=rows[:, 0].contiguous(), squares=rows[:, 1].contiguous())


def _along_gradients(loss: TrainingLoss, *, num_steps: int | None) -> Tensor:
    """``(S, 2)`` forms and squares, on the CPU."""
    # no room is left for graphs that nothing will ask for again
    loss.products.forget()
    steps, own = loss.step_batches, loss.in_steps or loss
    each = steps.per_process if isinstance(steps, StepBatches) else 1
    of_step = _of_one if each == own.processes.size == 1 else _of_several
    batches, rows = own.sample.batches, list[Tensor]()
    batches = batches if num_steps is None else batches[: num_steps * each]
    for start in range(0, len(batches) - each + 1, each):
        row = of_step(own, batches[start : start + each])
        if row is not None:
            rows.append(row.cpu())
    return torch.stack(rows) if rows else torch.zeros(0, 2, dtype=torch.float64)


def _of_one(loss: TrainingLoss, batches: Sequence[FrozenBatch]) -> Tensor | None:
    """Of a step that is one batch, whose graph serves its gradient and its product."""
    scalar = loss.evaluate(batches[0])
    if scalar is None:
        return None
    first = _first_derivatives(loss, scalar, has_graph=True)
    gradient = torch.zeros(loss.size, dtype=torch.float64, device=loss.device)
    loss.parameters.add_flat(gradient, [None if g is None else g.detach() for g in first], 1.0)
    (column,) = loss.columns_of(gradient.to(loss.dtype)[:, None])
    return torch.stack([_form(loss, first, column, gradient), gradient.dot(gradient)])


def _of_several(loss: TrainingLoss, batches: Sequence[FrozenBatch]) -> Tensor | None:
    """Of a step over several batches or processes: first its gradient, then each one's product."""
    processes, count = loss.processes, len(batches) * loss.processes.size
    total = torch.zeros(loss.size + 1, dtype=torch.float64, device=loss.device)
    for batch in batches:
        on_all_or_none(processes, partial(_add_gradient, loss, batch, total))
    total = processes.sum(total)
    if total[-1] == 0:
        return None
    gradient = total[:-1] / count
    (column,) = loss.columns_of(gradient.to(loss.dtype)[:, None])
    form = torch.zeros(1, dtype=torch.float64, device=loss.device)
    for batch in batches:
        on_all_or_none(processes, partial(_add_form, loss, batch, column, gradient, form))
    return torch.stack([processes.sum(form)[0] / count, gradient.dot(gradient)])


def _add_gradient(loss: TrainingLoss, batch: FrozenBatch, total: Tensor) -> None:
    """Add a batch's gradient, and one for the batch; nothing of one that training would skip."""
    scalar = loss.evaluate(batch)
    if scalar is not None:
        loss.parameters.add_flat(total[:-1], _first_derivatives(loss, scalar, has_graph=False), 1.0)
        total[-1] += 1


def _add_form(
    loss: TrainingLoss,
    batch: FrozenBatch,
    column: Sequence[Tensor],
    gradient: Tensor,
    form: Tensor,
) -> None:
    """Add ``g . H_b g`` of a batch."""
    scalar = loss.evaluate(batch)
    if scalar is not None:
        first = _first_derivatives(loss, scalar, has_graph=True)
        form += _form(loss, first, column, gradient)


def _first_derivatives(loss: TrainingLoss, scalar: Tensor, *, has_graph: bool) -> FirstDerivatives:
    tensors = loss.parameters.tensors
    if not scalar.requires_grad:
        return [None] * len(tensors)
    return torch.autograd.grad(scalar, tensors, create_graph=has_graph, allow_unused=True)


def _form(
    loss: TrainingLoss, first: FirstDerivatives, column: Sequence[Tensor], gradient: Tensor
) -> Tensor:
    """``g . H g`` by a second backward pass; zero where the first derivatives are constants."""
    moved = torch.zeros_like(gradient)
    for second in second_derivatives(first, loss.parameters.tensors, [column]):
        loss.parameters.add_flat(moved, second, 1.0)
    return gradient.dot(moved)
