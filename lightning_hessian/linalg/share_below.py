"""The share of a spectrum below a point, between rigorous bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_hessian.linalg.krylov import KrylovSpace, RitzPairs

STANDARD_ERRORS = 2.0
AT_POINT = 1e-6

Bracket = tuple[float, float]


def brackets_below(space: KrylovSpace, ritz: RitzPairs, points: Sequence[float]) -> list[Bracket]:
    """Bounds of the share of eigenvalues below each point.

    For each probe, Gauss-Radau quadrature with a node at the point bounds the probe's measure of
    what is below it from both sides (Chebyshev, Markov, Stieltjes). The bracket is the probes' mean
    of these bounds, widened to all shares ``f`` from which a mean over ``b`` probes would be at
    most two standard errors ``sqrt(2 f (1 - f) / (n b))`` away (Wilson): a probe may miss a single
    eigenvalue. By Cauchy's interlacing the Ritz values beyond the point on either side are counted
    for certain, whatever the probes. When the space is the whole of R^n the share is counted.

    Args:
        space: Grown from Rademacher probes, or from these beside others that ``start`` leaves out.
        ritz: Its Ritz pairs.
        points: In eigenvalue units.

    Returns:
        Lower and upper bound for each.

    References:
        G. H. Golub, G. Meurant (2010), "Matrices, moments and quadrature", sections 3.1, 6.2; E. B.
        Wilson (1927), J. Am. Stat. Assoc. 22, 209-212; B. N. Parlett (1998), theorem 10.1.1.
    """
    if space.is_whole:
        shares = [float((ritz.values < point).double().mean()) for point in points]
        return [(share, share) for share in shares]
    size, count = space.size, space.start.shape[1]
    matrices, trials, found = _jacobi_matrices(space), 0.5 * size * count, []
    for point in points:
        bounds = torch.tensor([radau_bounds(*matrix, point) for matrix in matrices])
        means = bounds.mean(dim=0).clamp(0, 1).tolist()
        below = int((ritz.values < point - space.noise).sum())
        above = int((ritz.values > point + space.noise).sum())
        lower = max(wilson(means[0], trials, -1), below / size)
        upper = min(wilson(means[1], trials, 1), 1 - above / size)
        found.append((lower, upper))
    return found


def wilson(share: float, trials: float, sign: int) -> float:
    """The share ``f`` whose distance to ``share`` is two of ``sqrt(f (1 - f) / trials)``."""
    z2 = STANDARD_ERRORS**2 / trials
    spread = math.sqrt(z2 * share * (1 - share) + z2 * z2 / 4)
    return min(max((share + z2 / 2 + sign * spread) / (1 + z2), 0.0), 1.0)


def radau_bounds(diagonal: Tensor, off_diagonal: Tensor, point: float) -> tuple[float, float]:
    """Bounds of a probe's measure of ``(-inf, point)`` by a Gauss-Radau rule with a node there."""
    # The last off-diagonal entry couples to what is not in the probe's Jacobi matrix.
    jacobi = torch.diag(diagonal)
    jacobi += torch.diag(off_diagonal[:-1], 1) + torch.diag(off_diagonal[:-1], -1)
    steps, outflow = len(diagonal), float(off_diagonal[-1])
    nodes, vectors = torch.linalg.eigh(jacobi)
    at_point = (nodes - point).abs() < AT_POINT * abs(point)
    # a Gauss rule with a node at the point needs no further one; without outflow it is exact
    if outflow > 0 and not bool(at_point.any()):
        last = torch.zeros(steps, dtype=torch.float64)
        last[-1] = outflow**2
        shifted = jacobi - point * torch.eye(steps, dtype=torch.float64)
        corner = point + float(torch.linalg.solve(shifted, last)[-1])
        jacobi = torch.nn.functional.pad(jacobi, (0, 1, 0, 1))
        jacobi[-1, -2] = jacobi[-2, -1] = outflow
        jacobi[-1, -1] = corner
        nodes, vectors = torch.linalg.eigh(jacobi)
        at_point = torch.zeros(len(nodes), dtype=torch.bool)
        at_point[(nodes - point).abs().argmin()] = True
    weights = vectors[0].square()
    below = (nodes < point) & ~at_point
    lower = float(weights[below].sum())
    return lower, lower + float(weights[at_point].sum())


def _jacobi_matrices(space: KrylovSpace) -> list[tuple[Tensor, Tensor]]:
    """Jacobi matrix of each probe, found inside the block's projection without further products."""
    # the first `num_blocks` powers of the operator on a probe lie in the block Krylov space, so the
    # scalar recurrence run on T is that of the operator, up to and including the last off-diagonal,
    # which is the norm of what leaves the space; all probes go side by side
    count, steps = space.start.shape[1], space.num_blocks
    vectors = torch.zeros(count, steps, space.dimension, dtype=torch.float64)
    diagonal = torch.zeros(count, steps, dtype=torch.float64)
    inside, outside = torch.zeros_like(diagonal), torch.zeros_like(diagonal)
    vector = (space.start / space.start.norm(dim=0)).T
    for step in range(steps):
        vectors[:, step] = vector
        image = vector @ space.projection
        diagonal[:, step] = (image * vector).sum(dim=1)
        known = vectors[:, : step + 1]
        for _ in range(2):
            shared = known @ image[:, :, None]
            image = image - (shared.mT @ known)[:, 0]
        inside[:, step] = norm = image.norm(dim=1)
        outside[:, step] = (vector @ space.outflow.T).norm(dim=1)
        vector = image / norm.clamp_min(torch.finfo(torch.float64).tiny)[:, None]
    off_diagonal = torch.hypot(inside, outside)
    off_diagonal[off_diagonal <= space.noise] = 0.0
    ended = (inside <= space.noise).long()
    last = torch.where(ended.any(dim=1), ended.argmax(dim=1), steps - 1).tolist()
    return [(diagonal[i, : n + 1], off_diagonal[i, : n + 1]) for i, n in enumerate(last)]
