"""Is the Hessian-vector product of this module's loss exact? Asked once per fit, on one batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lightning_hessian.errors import NoExactProductsError, NonFiniteError, RefusedError
from lightning_hessian.linalg import rademacher
from lightning_hessian.loss import TrainingLoss, node_names, once_differentiable_functions
from lightning_hessian.processes import any_process, enter_on_all, on_all_or_none
from lightning_hessian.records import Note

ASYMMETRY_LIMIT = 1e-6
COARSE_ASYMMETRY_LIMIT = 1e-4
DIFFERENCE_LIMIT = 1e-3
STEPS = (1e-6, 1e-9)
"""Of the differences, relative to the parameters' norm; the second where the first disagrees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfCheck:
    """What the comparison of products found.

    Attributes:
        asymmetry: ``|u.Hv - v.Hu|`` relative to ``|Hu| + |Hv|`` for unit vectors.
        difference: ``||Hv - FD||`` relative to the larger, FD a central difference of gradients;
            what rounding alone explains is taken off.
        notes: Sentences for the report; empty if all is well.
    """

    asymmetry: float
    difference: float
    notes: tuple[Note, ...]


def refuse_silent_errors(loss: TrainingLoss) -> int | None:
    """Search the loss's graph for constructions whose second derivative is silently missing.

    Those are reentrant checkpointing, and functions that are differentiable once only. Costs one
    gradient of the first batch that has a loss; gives its index, None where no batch has one.
    """
    index, scalar = _first_loss(loss)
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


def compare_products(loss: TrainingLoss, *, generator: torch.Generator) -> SelfCheck:
    """Compare products with their own transpose and with differences of gradients.

    Meant for a float64 loss of one batch (no other has a loss), in a sandbox of copies: then
    rounding is far below the limits, and the difference's step crosses next to no kink of a ReLU.
    In float32 a wrong symmetry is still seen, but rounding explains almost any difference. Costs
    two products and two gradients of the batch, or four. Several processes check the mean over a
    batch of each.

    A finite difference sees through ``detach()``, the Hessian does not: the two differ for a loss
    with a stop-gradient, on purpose. So a difference is noted, while an asymmetry is refused.

    Raises:
        NoExactProductsError: If the products are not symmetric.
        NonFiniteError: If a product holds NaN or infinity.
    """
    _, scalar = on_all_or_none(loss.processes, lambda: _first_loss(loss))
    if not any_process(loss.processes, scalar is not None):
        return SelfCheck(asymmetry=0.0, difference=0.0, notes=())
    # a step that casts to a lower type inside computes with that type's roundings
    names = node_names([] if scalar is None else [scalar])
    casts = any_process(loss.processes, any("ToCopy" in name for name in names))
    is_coarse = casts or loss.dtype != torch.float64
    eps = torch.finfo(torch.float32 if is_coarse else torch.float64).eps
    limit = COARSE_ASYMMETRY_LIMIT if is_coarse else ASYMMETRY_LIMIT
    probes = rademacher(
        loss.size, 2, generator=generator, device=loss.device, dtype=torch.float64
    ) / (loss.size**0.5)
    products = loss.products.matmat(probes).double()
    asymmetry = _refuse_asymmetry(probes, products, limit)
    difference = math.inf
    for step in STEPS:
        # a step over kinks of a ReLU disagrees, and less so the shorter it is
        if difference > DIFFERENCE_LIMIT:
            nearer = _relative_difference(loss, probes[:, 1], products[:, 1], eps, step)
            difference = min(difference, nearer)
    notes = (_note_on(difference),) if difference > DIFFERENCE_LIMIT else ()
    return SelfCheck(asymmetry=asymmetry, difference=difference, notes=notes)


def _refuse_asymmetry(probes: Tensor, products: Tensor, limit: float) -> float:
    """``|u.Hv - v.Hu|`` relative to ``|Hu| + |Hv|``, refused above the limit."""
    (u, v), (hu, hv) = probes.unbind(dim=1), products.unbind(dim=1)
    scale = float(hu.norm() + hv.norm())
    if not math.isfinite(scale):
        raise NonFiniteError(
            "a Hessian-vector product holds NaN or infinity, while loss and gradient are finite. "
            "Look for a square root, a norm or a power whose curvature is infinite."
        )
    asymmetry = abs(float(u @ hv - v @ hu)) / scale if scale > 0 else 0.0
    if asymmetry > limit:
        raise NoExactProductsError(
            "Hessian-vector products of this loss are not symmetric: |u.Hv - v.Hu| is "
            f"{asymmetry:.1e} of |Hu| + |Hv|, where rounding allows {limit:.0e}. Some operation's "
            "second derivative is wrong; `torch.autograd.gradgradcheck` on custom functions and "
            "fused layers finds it."
        )
    return asymmetry


def _note_on(difference: float) -> Note:
    return Note(
        "products-differ-from-differences",
        f"Self-check: products differ by {difference:.1%} from differences of gradients. Right "
        "if the loss stops gradients on purpose (detach, straight-through, a target network) "
        "or stands on a kink (ReLUs at exactly zero, as with new biases and empty inputs); "
        "otherwise a custom autograd function saves detached values, and "
        "`products='finite_difference'` measures what its gradient says.",
    )


def _first_loss(loss: TrainingLoss) -> tuple[int, Tensor] | tuple[None, None]:
    for index, batch in enumerate(loss.sample.batches):
        scalar = loss.evaluate(batch)
        if scalar is not None and scalar.requires_grad:
            return index, scalar
    return None, None


def _relative_difference(
    loss: TrainingLoss, v: Tensor, hv: Tensor, eps: float, relative_step: float
) -> float:
    parameters = loss.parameters
    norm = float(torch.cat([p.detach().reshape(-1) for p in parameters.tensors]).norm())
    step = relative_step * max(norm, 1.0)
    forward = _gradient_at(loss, v, step)
    backward = _gradient_at(loss, v, -step)
    quotient = (forward - backward) / (2 * step)
    # a gradient carries about sqrt(operations) roundings; 100 of them are generous
    rounding = 100 * eps * float(forward.norm() + backward.norm()) / (2 * step)
    larger = max(float(hv.norm()), float(quotient.norm()))
    excess = float((hv - quotient).norm()) - rounding
    return max(excess, 0.0) / larger if larger > 0 else 0.0


def _gradient_at(loss: TrainingLoss, v: Tensor, step: float) -> Tensor:
    """Gradient at ``w + step v``, by ``backward()`` as training takes it."""
    with enter_on_all(loss.processes, loss.displaced(v, step)):
        total = loss.sum_over_batches(loss.size + 1, partial(_add_backward, loss))
    if total[-1] == 0:
        raise RefusedError(
            "`training_step` returned None for a batch at slightly moved parameters, but a "
            "loss at the present ones: its loss is not a function of the parameters."
        )
    return total[:-1] / total[-1]


def _add_backward(loss: TrainingLoss, total: Tensor, index: int) -> None:
    """Add a batch's weighted gradient, and its weight."""
    batch, tensors = loss.sample.batches[index], loss.parameters.tensors
    scalar = loss.evaluate(batch)
    if scalar is None or not scalar.requires_grad:
        return
    for parameter in tensors:
        parameter.grad = None
    (batch.weight * scalar).backward(inputs=list(tensors))
    loss.parameters.add_flat(total[:-1], [p.grad for p in tensors], 1.0)
    total[-1] += batch.weight
