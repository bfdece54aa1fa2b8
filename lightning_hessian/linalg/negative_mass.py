"""How much of the spectrum is negative, between rigorous bounds."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_hessian.linalg.krylov import KrylovSpace, RitzPairs
from lightning_hessian.linalg.share_below import brackets_below, radau_bounds, wilson
from lightning_hessian.records import NegativeMass, SpectralDensity

THRESHOLD_SHARE = 1e-3


def negative_mass(
    space: KrylovSpace,
    ritz: RitzPairs,
    density: SpectralDensity,
    *,
    threshold: float | None = None,
) -> NegativeMass:
    """Share of eigenvalues below ``-threshold``, with a bracket.

    The threshold is a thousandth of the operator's norm, or the space's noise where that is larger:
    nearer to zero a loss Hessian has a mass of eigenvalues whose sign is rounding. The bracket is
    that of :func:`brackets_below`; when the space is the whole of R^n the share is counted.

    Costs no product beyond the sweep.

    Args:
        space: Grown from Rademacher probes.
        ritz: Its Ritz pairs.
        density: Made from them.
        threshold: Another one; it is not below the space's noise.

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
    wanted = THRESHOLD_SHARE * ritz.scale if threshold is None else threshold
    threshold = max(wanted, space.noise)
    # the weights' sum may pass one by a rounding
    fraction = min(float(density.weights[density.nodes < -threshold].sum()), 1.0)
    ((lower, upper),) = brackets_below(space, ritz, [-threshold])
    if space.is_whole:
        fraction = lower
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
    lower = (least + rest * wilson(means[0], trials, -1)) / size
    upper = (most + rest * wilson(means[1], trials, 1)) / size
    bracket = (min(lower, fraction), max(upper, fraction))
    return NegativeMass(fraction=fraction, bracket=bracket, threshold=threshold)
