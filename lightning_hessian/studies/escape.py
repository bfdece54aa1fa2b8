"""Down the most negative direction: what derivatives foresee, and what the loss does."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from lightning_hessian.records import Escape
from lightning_hessian.studies.weight_decay import DecayedLoss

DIFFERENCE = 0.01
"""Of the weights' length, over which the curvature's own derivatives are taken."""
FIRST, RATIO, MOST = 1e-3, 2.0, 12
"""The line's first point, in shares of the weights' length, and how the others follow."""
ROUNDINGS = 100
NUM_PRODUCTS = 2


def measure_escape(
    loss: DecayedLoss, direction: Tensor, gradient: Tensor, value: float, curvature: float
) -> Escape:
    """Follow a direction of negative curvature to both sides until the loss rises.

    The third and fourth derivatives along it are central differences of ``v.H v`` over a hundredth
    of the weights' length. Then the loss itself is computed at distances from a thousandth of that
    length on, each twice the one before, up to the first at which it rises; and where the fourth
    order foresees its minimum.

    Costs two products, and some ten to twenty forward passes.

    Args:
        loss: At the present parameters.
        direction: ``(n,)`` unit vector ``v``; its sign is chosen so that ``g.v <= 0``.
        gradient: ``(n,)`` float64.
        value: Of the loss here.
        curvature: ``v.H v``.

    Returns:
        What was foreseen and found.
    """
    slope = float(gradient @ direction.double())
    if slope > 0:
        direction, slope = -direction, -slope
    length = float(loss.weights.norm()) or 1.0
    h = DIFFERENCE * length
    ahead, behind = (loss.curvature_at(direction, sign * h) for sign in (1, -1))
    third, fourth = (ahead - behind) / (2 * h), (ahead - 2 * curvature + behind) / h**2
    foreseen = _minimum(slope, curvature, third, fourth)
    points = {0.0: value}
    noise = ROUNDINGS * torch.finfo(loss.dtype).eps * abs(value)
    for sign in (1, -1):
        least = value
        for number in range(MOST):
            step = sign * FIRST * length * RATIO**number
            points[step] = there = loss.value_at(direction, step)
            if not there <= least + noise:
                break
            least = min(least, there)
    if math.isfinite(foreseen[0]):
        points.setdefault(foreseen[0], loss.value_at(direction, foreseen[0]))
    distances = sorted(points)
    losses = torch.tensor([points[each] for each in distances], dtype=torch.float64)
    best = int(losses.nan_to_num(nan=math.inf).argmin())
    return Escape(
        curvature=curvature,
        slope=slope,
        third=third,
        fourth=fourth,
        predicted_distance=foreseen[0],
        predicted_decrease=foreseen[1],
        distances=torch.tensor(distances, dtype=torch.float64),
        losses=losses,
        distance=distances[best],
        decrease=value - float(losses[best]),
    )


def num_passes(escape: Escape) -> int:
    """Forward passes over the samples that it took."""
    return len(escape.distances) - 1


def _minimum(slope: float, curvature: float, third: float, fourth: float) -> tuple[float, float]:
    """Where ``m`` is least, and how far it is below zero; ``nan`` where it falls for ever."""
    if not fourth > 0:
        return math.nan, math.nan
    terms = [fourth / 24, third / 6, curvature / 2, slope, 0.0]
    roots = np.roots(np.polyder(terms))
    real = roots.real[np.abs(roots.imag) <= 1e-6 * np.abs(roots)]
    values = np.polyval(terms, real)
    best = int(values.argmin())
    return float(real[best]), -float(values[best])
