"""What the ways of searching have in common: a look around, a step, and whether to take it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_hessian.studies.searched_loss import Quadratic, SearchedLoss, Slope, Step

ROUNDINGS = 10
TRUST, WELL = 1 / 4, 1 / 10
"""Of the terms of a model: what the loss may be off by, and up to where longer steps are tried."""
LONGER, SAME, SHORTER = 2.0, 1.0, 1 / 3
"""What the radius is multiplied by; the last after a step that was refused."""

Look = Callable[[SearchedLoss, Slope], Quadratic]
Judge = Callable[[SearchedLoss, Quadratic, Step, Tensor], float]


@dataclass(frozen=True, slots=True)
class SearchMethod:
    """Newton's method within a radius, by what it makes of curvature's sign.

    Attributes:
        name: In words.
        price: Products of a look.
        look: The loss to second order around weights.
        step: From the loss to second order and a radius to a step.
        judge: What the radius is multiplied by after a step to other weights: below one where it
            is refused.
        farthest: Length that no step exceeds, in shares of the weights'.
    """

    name: str
    price: int
    look: Look
    step: Callable[[Quadratic, float], Step]
    judge: Judge
    farthest: float


def by_signs(signs: Callable[[Tensor], Tensor]) -> Callable[[Quadratic, float], Step]:
    """A step by signs that follow from eigenvalues, ``(k,)`` ascending: 1 is down, -1 is up."""
    return lambda model, reach: model.step(signs(model.values), reach)


def rounding_of(value: float) -> float:
    """By how much two losses may differ that are the same."""
    return ROUNDINGS * torch.finfo(torch.float64).eps * abs(value)


def taken(step: Step, change: float) -> float:
    """A longer step may be next where the loss changed as was foreseen."""
    return LONGER if abs(change - step.change) <= WELL * step.terms else SAME


def judge_by_model(loss: SearchedLoss, model: Quadratic, step: Step, weights: Tensor) -> float:
    """Take a step where the model was right about the loss, or the gradient is half as long.

    What it may be off by is a quarter of the terms' magnitudes: at a saddle they cancel, and a
    share of the change itself would refuse good steps.

    Returns:
        What the radius is multiplied by.
    """
    here = model.slope
    change = loss.value_at(weights) - here.loss
    if abs(change - step.change) <= TRUST * step.terms + rounding_of(here.loss):
        return taken(step, change)
    is_shorter = math.isfinite(change) and loss.slope_at(weights).norm <= here.norm / 2
    return SAME if is_shorter else SHORTER
