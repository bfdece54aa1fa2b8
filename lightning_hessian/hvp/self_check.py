"""Is the Hessian-vector product of this module's loss exact? Decided on one batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lightning_hessian.errors import NoExactProductsError, NonFiniteError
from lightning_hessian.hvp.agreement import Comparison, slopes_are_others
from lightning_hessian.hvp.silent_errors import first_loss
from lightning_hessian.linalg import rademacher
from lightning_hessian.loss import TrainingLoss, node_names
from lightning_hessian.processes import any_process, enter_on_all, on_all_or_none
from lightning_hessian.records import Note

ASYMMETRY_LIMIT = 1e-6
COARSE_ASYMMETRY_LIMIT = 1e-4
STEPS = (1e-6, 1e-8, 1e-10)
"""Of the differences, relative to the parameters' norm: a step over a kink disagrees, and there are
fewer the shorter it is."""
NEARBY = 1e-3
"""Of the parameters' norm, to a point that stands on no kink, nor at zero by its initialisation."""

Verdict = Literal["exact", "kinked", "surrogate"]
"""``exact``: products agree with differences of gradients. ``kinked``: they do nearby, and the
weights stand on a kink. ``surrogate``: gradients are not those of the loss's value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfCheck:
    """What the comparison of products found.

    Attributes:
        verdict: What they are.
        asymmetry: ``|u.Hv - v.Hu|`` relative to ``|Hu| + |Hv|`` for unit vectors.
        distance: ``|Hv - FD|`` in the parameter where it is largest, relative to the larger of the
            two, FD a central difference of gradients; what rounding explains is taken off.
        notes: Sentences for the report; empty if all is well.
    """

    verdict: Verdict = "exact"
    asymmetry: float = 0.0
    distance: float = 0.0
    notes: tuple[Note, ...] = ()


def compare_products(loss: TrainingLoss, *, generator: torch.Generator) -> SelfCheck:
    """Compare products with their own transpose and with differences of gradients.

    Meant for a float64 loss of one batch (no other has a loss), in a sandbox of copies: then
    rounding is far below the limits. In float32 a wrong symmetry is still seen, but rounding
    explains almost any difference. Each parameter is looked at by itself, so that one wrong layer
    among many shows. Costs two products and four gradients of the batch; where these disagree, up
    to five times as much. Several processes check the mean over a batch of each.

    Where they disagree, they are compared at a nearby point too, which stands on no kink. If they
    disagree there as well, the gradient is set beside differences of the loss. A gradient that is
    not the loss's own was stopped on purpose: the products are those of the loss with these parts
    held constant. A gradient that is right, whose differences are not the products, makes these
    wrong; so do differences that change with their step, by which nothing can be verified.

    Raises:
        NoExactProductsError: If the products are wrong, not symmetric, or not to be verified.
        NonFiniteError: If a product holds NaN or infinity.
    """
    _, scalar = on_all_or_none(loss.processes, lambda: first_loss(loss))
    if not any_process(loss.processes, scalar is not None):
        return SelfCheck()
    # a step that casts to a lower type inside computes with that type's roundings
    names = node_names([] if scalar is None else [scalar])
    casts = any_process(loss.processes, any("ToCopy" in name for name in names))
    is_coarse = casts or loss.dtype != torch.float64
    eps = torch.finfo(torch.float32 if is_coarse else torch.float64).eps
    probes = rademacher(
        loss.size, 3, generator=generator, device=loss.device, dtype=torch.float64
    ) / (loss.size**0.5)
    vectors, away = probes[:, :2], probes[:, 2]
    products = loss.products.matmat(vectors).double()
    limit = COARSE_ASYMMETRY_LIMIT if is_coarse else ASYMMETRY_LIMIT
    asymmetry = _refuse_asymmetry(vectors, products, limit)
    norm = max(loss.parameters.norm(), 1.0)
    steps = [step * norm for step in STEPS]
    here = Comparison.of(loss, vectors, products, steps, eps)
    if here.agrees:
        return SelfCheck(asymmetry=asymmetry, distance=here.distance)
    with enter_on_all(loss.processes, loss.displaced(away, NEARBY * norm)):
        nearby = Comparison.of(loss, vectors, loss.products.matmat(vectors).double(), steps, eps)
        if nearby.agrees:
            verdict: Verdict = "kinked"
        elif _is_surrogate(loss, vectors, nearby, steps[0], eps):
            verdict = "surrogate"
        else:
            name = loss.parameters.names[nearby.worst]
            text = _WRONG if nearby.is_steady(loss) else _UNDECIDED
            raise NoExactProductsError(text.format(name=name, distance=nearby.distance))
    distance = min(here.distance, nearby.distance)
    return SelfCheck(
        verdict=verdict, asymmetry=asymmetry, distance=distance, notes=(_NOTES[verdict],)
    )


def _refuse_asymmetry(vectors: Tensor, products: Tensor, limit: float) -> float:
    """``|u.Hv - v.Hu|`` relative to ``|Hu| + |Hv|``, refused above the limit."""
    (u, v), (hu, hv) = vectors.unbind(dim=1), products.unbind(dim=1)
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


def _is_surrogate(
    loss: TrainingLoss, vectors: Tensor, nearby: Comparison, step: float, eps: float
) -> bool:
    """Whether gradients are not those of the loss's value."""
    gradient = loss.gradient().vector
    off = (nearby.products - nearby.differences[0].products)[:, 0]
    others = [each / each.norm() for each in (gradient, off) if float(each.norm()) > 0]
    directions = torch.stack([*vectors.unbind(dim=1), *others], dim=1)
    if slopes_are_others(loss, directions, gradient, step, eps):
        return True
    # a loss that is zero wherever one looks, and has a curvature: `(f - f.detach())**2`
    reach = NEARBY / STEPS[0] * step
    is_zero = float(gradient.norm()) <= 1e-6 * reach * float(nearby.products.norm())
    return is_zero and nearby.vanishes()


_WRONG = (
    "Hessian-vector products of this loss are wrong: at {name!r} they are {distance:.1e} away from "
    "differences of gradients, at several step sizes alike, while the gradients agree with "
    "differences of the loss. Some operation's second derivative is wrong or missing (a custom "
    "autograd function that saves detached values); `torch.autograd.gradgradcheck` on custom "
    "functions and fused layers finds it."
)
_UNDECIDED = (
    "Hessian-vector products of this loss cannot be verified: at {name!r} they are {distance:.1e} "
    "away from differences of gradients, which change with their step, here and nearby. The loss "
    "is too rough or too noisy."
)
_NOTES = {
    "kinked": Note(
        "on-a-kink",
        "The weights stand on a kink of the loss (ReLUs at exactly zero, as with new biases and "
        "empty inputs): the Hessian is that of the side that autograd takes. Nearby, products "
        "agree with differences of gradients.",
    ),
    "surrogate": Note(
        "stopped-gradients",
        "Gradients of this loss are not those of its value: they are stopped or replaced on "
        "purpose (detach, straight-through, a target network), or a custom function gives others. "
        "The Hessian is that of the loss with those parts held constant, as the optimiser sees it.",
    ),
}
