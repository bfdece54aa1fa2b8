"""How much of the spectrum is negative, between rigorous bounds."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_hessian.estimators.krylov import KrylovSpace, RitzPairs
from lightning_hessian.results import NegativeMass, SpectralDensity

THRESHOLD_SHARE = 1e-3
STANDARD_ERRORS = 2.0
AT_POINT = 1e-6


def negative_mass(space: KrylovSpace, ritz: RitzPairs, density: SpectralDensity) -> NegativeMass:
    """Share of eigenvalues below ``-threshold``, with a bracket.

    The threshold is a thousandth of the operator's norm, or the space's noise where that is larger:
    nearer to zero a loss Hessian has a mass of eigenvalues whose sign is rounding. For each probe,
    Gauss-Radau quadrature with a node at ``-threshold`` bounds the probe's measure of the negative
    part from both sides (Chebyshev, Markov, Stieltjes). The bracket is the probes' mean of these
    bounds, widened to all shares ``f`` from which a mean over ``b`` probes would be at most two
    standard errors ``sqrt(2 f (1 - f) / (n b))`` away (Wilson): a probe may miss a single negative
    eigenvalue. By Cauchy's interlacing the Ritz values beyond ``-threshold`` on either side are
    counted for certain, whatever the probes. When the space is the whole of R^n the share is
    counted.

    Costs no product beyond the sweep.

    Args:
        space: Grown from Rademacher probes.
        ritz: Its Ritz pairs.
        density: Made from them.

    Returns:
        The share, its bracket, the threshold.

    References:
        G. H. Golub, G. Meurant (2010), "Matrices, moments and quadrature", sections 3.1, 6.2; E. B.
        Wilson (1927), J. Am. Stat. Assoc. 22, 209-212; B. N. Parlett (1998), theorem 10.1.1.
    """
    threshold = max(THRESHOLD_SHARE * ritz.scale, space.noise)
    # the weights' sum may pass one by a rounding
    fraction = min(float(density.weights[density.nodes < -threshold].sum()), 1.0)
    if space.is_whole:
        return NegativeMass(fraction=fraction, bracket=(fraction, fraction), threshold=threshold)
    bounds = torch.tensor(
        [_radau_bounds(space, start, -threshold) for start in space.start.unbind(dim=1)]
    )
    size, count = space.size, space.start.shape[1]
    means = bounds.mean(dim=0).clamp(0, 1).tolist()
    trials = 0.5 * size * count
    lower, upper = _wilson(means[0], trials, -1), _wilson(means[1], trials, 1)
    below = int((ritz.values < -threshold - space.noise).sum())
    above = int((ritz.values > -threshold + space.noise).sum())
    lower, upper = max(lower, below / size), min(upper, 1 - above / size)
    bracket = (min(lower, fraction), max(upper, fraction))
    return NegativeMass(fraction=fraction, bracket=bracket, threshold=threshold)


def _wilson(share: float, trials: float, sign: int) -> float:
    """The share ``f`` whose distance to ``share`` is two of ``sqrt(f (1 - f) / trials)``."""
    z2 = STANDARD_ERRORS**2 / trials
    spread = math.sqrt(z2 * share * (1 - share) + z2 * z2 / 4)
    return min(max((share + z2 / 2 + sign * spread) / (1 + z2), 0.0), 1.0)


def _radau_bounds(space: KrylovSpace, start: Tensor, point: float) -> tuple[float, float]:
    """Lower and upper bound of one probe's measure of ``(-inf, point)``."""
    diagonal, off_diagonal = _scalar_lanczos(space, start)
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


def _scalar_lanczos(space: KrylovSpace, start: Tensor) -> tuple[Tensor, Tensor]:
    """Jacobi matrix of one probe, found inside the block's projection without further products.

    The first ``num_blocks`` powers of the operator on a probe lie in the block Krylov space, so the
    scalar recurrence run on ``T`` is that of the operator, up to and including the last
    off-diagonal, which is the norm of what leaves the space.

    Returns:
        Diagonal ``(m,)`` and off-diagonal ``(m,)``, whose last entry points out of the space.
    """
    vector = start / start.norm()
    basis = [vector]
    diagonal, off_diagonal = [], []
    for _ in range(space.num_blocks):
        image = space.projection @ basis[-1]
        diagonal.append(float(basis[-1] @ image))
        known = torch.stack(basis)
        for _ in range(2):
            image = image - known.T @ (known @ image)
        leaving = space.outflow @ basis[-1]
        norm = math.hypot(float(image.norm()), float(leaving.norm()))
        if norm <= space.noise:
            off_diagonal.append(0.0)
            break
        off_diagonal.append(norm)
        if float(image.norm()) <= space.noise:
            break
        basis.append(image / image.norm())
    return torch.tensor(diagonal, dtype=torch.float64), torch.tensor(
        off_diagonal, dtype=torch.float64
    )
