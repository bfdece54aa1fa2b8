"""How much of the spectrum is negative, between rigorous bounds."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_hessian.linalg.krylov import KrylovSpace, RitzPairs
from lightning_hessian.records import NegativeMass, SpectralDensity

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

    Example:
        >>> from lightning_hessian.linalg import (
        ...     DenseOperator, block_lanczos, rademacher, spectral_density,
        ... )
        >>> operator = DenseOperator(torch.diag(torch.linspace(-1, 3, 400)))
        >>> generator = torch.Generator().manual_seed(0)
        >>> probes = rademacher(400, 4, generator=generator)
        >>> space = block_lanczos(operator, probes, max_dimension=80, generator=generator)
        >>> ritz = RitzPairs.of(space)
        >>> found = negative_mass(space, ritz, spectral_density(space, ritz))
        >>> found.bracket[0] < 0.25 < found.bracket[1]
        True
    """
    threshold = max(THRESHOLD_SHARE * ritz.scale, space.noise)
    # the weights' sum may pass one by a rounding
    fraction = min(float(density.weights[density.nodes < -threshold].sum()), 1.0)
    if space.is_whole:
        return NegativeMass(fraction=fraction, bracket=(fraction, fraction), threshold=threshold)
    bounds = torch.tensor([radau_bounds(*j, -threshold) for j in _jacobi_matrices(space)])
    size, count = space.size, space.start.shape[1]
    means = bounds.mean(dim=0).clamp(0, 1).tolist()
    trials = 0.5 * size * count
    lower, upper = _wilson(means[0], trials, -1), _wilson(means[1], trials, 1)
    below = int((ritz.values < -threshold - space.noise).sum())
    above = int((ritz.values > -threshold + space.noise).sum())
    lower, upper = max(lower, below / size), min(upper, 1 - above / size)
    bracket = (min(lower, fraction), max(upper, fraction))
    return NegativeMass(fraction=fraction, bracket=bracket, threshold=threshold)


def negative_share(
    *,
    values: Tensor,
    bounds: Tensor,
    jacobi: list[tuple[Tensor, Tensor]],
    density: SpectralDensity,
    size: int,
) -> NegativeMass:
    """The same from known eigenvalues, and from Jacobi matrices of probes on the complement."""
    # the known ones count as they are, or for both where a bound reaches over the threshold; the
    # bracket of `negative_mass` holds for the rest: it is that of the operator with the known
    # vectors split off, whose eigenvalues are within the bounds of the operator's
    noise = float(bounds.min()) if len(bounds) else 0.0
    threshold = max(THRESHOLD_SHARE * float(density.nodes.abs().max()), noise)
    fraction = min(float(density.weights[density.nodes < -threshold].sum()), 1.0)
    shares = torch.tensor([radau_bounds(*one, -threshold) for one in jacobi])
    means = shares.mean(dim=0).clamp(0, 1).tolist()
    rest = size - len(values)
    trials = 0.5 * rest * len(jacobi)
    least = int((values + bounds < -threshold).sum())
    most = len(values) - int((values - bounds > -threshold).sum())
    lower = (least + rest * _wilson(means[0], trials, -1)) / size
    upper = (most + rest * _wilson(means[1], trials, 1)) / size
    bracket = (min(lower, fraction), max(upper, fraction))
    return NegativeMass(fraction=fraction, bracket=bracket, threshold=threshold)


def _wilson(share: float, trials: float, sign: int) -> float:
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
