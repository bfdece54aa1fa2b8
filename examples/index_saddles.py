"""Exact critical points: minima of narrower networks, made wider by units that do nothing.

A hidden unit whose weights are all zero changes neither the outputs nor their derivatives by other
weights: the wider point is critical. To second order the unit's weights ``(u, v)`` come in as
``v.M u`` alone, ``M`` ``(n, n)`` being the mean over samples of the loss's derivative by an output
times an input. Each such unit adds the eigenvalues ``decay +- sigma``, for every singular value
``sigma`` of ``M``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from examples.index_points import IndexPoint, point
from examples.index_problem import Task
from lightning_hessian.studies import find_critical_point

ROUNDING = 1e-12
"""Norm of a gradient at which a narrow minimum has been found: the wider point is as exact."""
MAX_HVPS = 6000


def widened(task: Task, weights: Tensor) -> Tensor:
    """``(2 n^2,)`` the same function, with dead units in the places that are missing."""
    n = task.size
    width = len(weights) // (2 * n)
    into, out = weights.split([n * width, n * width])
    wide_into, wide_out = weights.new_zeros(2, n, n)
    wide_into[:width], wide_out[:, :width] = into.view(width, n), out.view(n, width)
    return torch.cat([wide_into.flatten(), wide_out.flatten()])


def narrow_minimum(task: Task, width: int, *, decay: float, seed: int) -> Tensor | None:
    """Weights ``(2 n width,)`` from random ones; None where the search did not converge."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(2 * task.size * width, generator=generator, dtype=torch.float64) / 2
    if not width:
        return weights
    with task.opened(weights.to(task.inputs)) as loss:
        found = find_critical_point(
            loss, target="minimum", weight_decay=decay, tolerance=ROUNDING, max_hvps=MAX_HVPS
        )
    return found.weights if found.report.is_target else None


def embedded_saddles(task: Task, *, decay: float, seeds: int) -> list[IndexPoint]:
    """Of every width below the full one, from so many random weights each.

    Weights that are all zero, of no width, are one of them.
    """
    starts = [(width, seed) for width in range(1, task.size) for seed in range(seeds)]
    found = []
    for width, seed in [(0, 0), *starts]:
        narrow = narrow_minimum(task, width, decay=decay, seed=seed)
        if narrow is not None:
            found.append(point(task, widened(task, narrow), decay=decay, source="embedded"))
    return found
