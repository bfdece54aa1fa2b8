"""The dense Hessian of a loss by differences of its gradients: no second derivative is trusted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

STEP = 1e-5
"""Of the differences; in float64 its square and the rounding over it are both about 1e-10."""
MOST_PARAMETERS = 2_500
"""Up to which the dense Hessian is made: two gradients for each parameter."""


@dataclass(frozen=True)
class Truth:
    """What is compared with.

    Attributes:
        loss: At the module's weights.
        eig_1: The largest eigenvalue.
        eig_min: The smallest.
        trace: Their sum.
    """

    loss: float
    eig_1: float
    eig_min: float
    trace: float


def truth_of(loss: Callable[[Any], Tensor], module: Any) -> Truth | None:
    """Take a module that has been trained into float64, in place, and its Hessian there.

    Args:
        loss: As a :class:`~examples.compatibility.case.Case` has it.
        module: In eval mode afterwards.

    Returns:
        None where the module has more than ``MOST_PARAMETERS``.
    """
    module.double().eval()
    parameters = [each for each in module.parameters() if each.requires_grad]
    if sum(each.numel() for each in parameters) > MOST_PARAMETERS:
        return None
    value = float(loss(module).detach())
    columns = []
    for each in parameters:
        flat = each.detach().view(-1)
        for index in range(len(flat)):
            kept = flat[index].item()
            ends = []
            for sign in (1, -1):
                flat[index] = kept + sign * STEP
                ends.append(_gradient(loss(module), parameters))
            flat[index] = kept
            columns.append((ends[0] - ends[1]) / (2 * STEP))
    hessian = torch.stack(columns)
    eigenvalues = torch.linalg.eigvalsh((hessian + hessian.T) / 2)
    return Truth(value, float(eigenvalues[-1]), float(eigenvalues[0]), float(hessian.trace()))


def _gradient(loss: Tensor, parameters: list[Tensor]) -> Tensor:
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    pairs = zip(found, parameters, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])
