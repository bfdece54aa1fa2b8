"""Newton's method that takes every curvature for positive: down to a minimum."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_hessian.studies.search_method import (
    SAME,
    SHORTER,
    SearchMethod,
    by_signs,
    rounding_of,
    taken,
)
from lightning_hessian.studies.searched_loss import Quadratic, SearchedLoss, Step


def saddle_free_newton(dimension: int) -> SearchMethod:
    """Steps ``-(|H| + mu)^-1 g`` in a Krylov space of the gradient, taken where the loss falls.

    It leaves saddles, and so finds minima only.

    Args:
        dimension: Of the space.

    Returns:
        The method.

    References:
        Y. Dauphin et al. (2014), "Identifying and attacking the saddle point problem in
        high-dimensional non-convex optimization", arXiv 1406.2572 (the step).
    """
    return SearchMethod(
        name="saddle-free Newton",
        price=dimension,
        look=lambda loss, slope: loss.in_krylov_space(slope, dimension),
        step=by_signs(torch.ones_like),
        judge=_judge_by_loss,
        farthest=math.inf,
    )


def _judge_by_loss(loss: SearchedLoss, model: Quadratic, step: Step, weights: Tensor) -> float:
    """Take a step where the loss falls or, where it is the same to rounding, the gradient does."""
    here = model.slope
    change, rounding = loss.value_at(weights) - here.loss, rounding_of(here.loss)
    if change < -rounding:
        return taken(step, change)
    is_shorter = change <= rounding and loss.slope_at(weights).norm < here.norm
    return SAME if is_shorter else SHORTER
