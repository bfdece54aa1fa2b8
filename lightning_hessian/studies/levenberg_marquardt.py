"""Levenberg and Marquardt's descent of the gradient's norm: to where a trajectory sets off."""

from __future__ import annotations

import math

from torch import Tensor

from lightning_hessian.errors import NonFiniteError
from lightning_hessian.studies.search_method import LONGER, SHORTER, SearchMethod
from lightning_hessian.studies.searched_loss import Quadratic, SearchedLoss, Step


def levenberg_marquardt(size: int) -> SearchMethod:
    """Steps of the least ``|g + H s|`` within a radius, taken where ``|g|`` falls.

    It converges to critical points of any index, or comes to rest where ``|g|`` is stationary and
    no critical point is near.

    Args:
        size: Number of parameters.

    Returns:
        The method, by the whole Hessian.

    References:
        D. W. Marquardt (1963), "An algorithm for least-squares estimation of nonlinear parameters",
        SIAM J. Appl. Math. 11, 431 (the step).
    """
    return SearchMethod(
        name="Levenberg-Marquardt",
        price=size,
        look=lambda loss, slope: loss.in_full(slope),
        step=Quadratic.residual_step,
        judge=_judge_by_norm,
        farthest=math.inf,
    )


def _judge_by_norm(loss: SearchedLoss, model: Quadratic, step: Step, weights: Tensor) -> float:  # noqa: ARG001
    """Take a step where the gradient is shorter."""
    try:
        is_shorter = loss.slope_at(weights).norm < model.slope.norm
    except NonFiniteError:
        is_shorter = False
    return LONGER if is_shorter else SHORTER
