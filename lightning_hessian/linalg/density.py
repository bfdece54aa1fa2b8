"""Spectral density by block Lanczos quadrature, with isolated eigenvalues at their exact mass."""

from __future__ import annotations

import torch
from scipy import stats
from torch import Tensor

from lightning_hessian.linalg.eigenvalues import are_known
from lightning_hessian.linalg.krylov import KrylovSpace, RitzPairs
from lightning_hessian.records import SpectralDensity

BANDWIDTH_SHARE = 0.01
LOCK_RTOL = 1e-2
IMPLAUSIBLE = 1e-4


def spectral_density(space: KrylovSpace, ritz: RitzPairs) -> SpectralDensity:
    """Turn a Krylov space grown from Rademacher probes into a distribution of eigenvalues.

    For a probe ``v`` with ``||v||^2 = n`` the Ritz values are the nodes and the squared first
    components the weights of a Gauss quadrature of the measure ``sum_i (v.u_i)^2 / n
    delta(lambda_i)``, whose mean over probes is the eigenvalue distribution (Golub & Welsch). An
    isolated eigenvalue's weight would scatter by 140 % for a single probe; once it has converged
    as a simple one its exact mass ``1/n`` is known and used, and the others' weights are scaled
    to the rest. A cluster is taken as simple eigenvalues only where the probes' own weights do not
    contradict it (chi-squared, level 1e-4): a null space keeps its measured mass.

    Costs no product beyond the sweep.

    Args:
        space: Grown from Rademacher probes.
        ritz: Its Ritz pairs.

    Returns:
        The density; its kernel's width is a hundredth of the spectrum's range.

    References:
        G. H. Golub, J. H. Welsch (1969), Math. Comp. 23, 221-230; S. Ubaru, J. Chen, Y. Saad
        (2017), SIAM J. Matrix Anal. Appl. 38, 1075-1099.

    Example:
        >>> from lightning_hessian.linalg import DenseOperator, block_lanczos, rademacher
        >>> operator = DenseOperator(torch.diag(torch.linspace(-1, 3, 400)))
        >>> generator = torch.Generator().manual_seed(0)
        >>> probes = rademacher(400, 4, generator=generator)
        >>> space = block_lanczos(operator, probes, max_dimension=80, generator=generator)
        >>> density = spectral_density(space, RitzPairs.of(space))
        >>> abs(density.mean - 1) < 0.1
        True
    """
    size = space.size
    probe_weights = quadrature_weights(space, ritz)
    if space.is_whole:
        probe_weights = torch.full_like(probe_weights, 1 / size)
    else:
        probe_weights = _lock(probe_weights, simple_eigenvalues(probe_weights, ritz, size), size)
    return SpectralDensity(
        nodes=ritz.values,
        weights=probe_weights.mean(dim=1),
        probe_weights=probe_weights,
        bandwidth=_bandwidth(ritz.values, space.noise),
    )


def quadrature_weights(space: KrylovSpace, ritz: RitzPairs) -> Tensor:
    """The bare quadrature: the weight of each Ritz value in each probe's spectral measure.

    Args:
        space: Grown from Rademacher probes.
        ritz: Its Ritz pairs.

    Returns:
        ``(k, b)`` float64; columns sum to one.

    Example:
        >>> from lightning_hessian.linalg import DenseOperator, block_lanczos
        >>> operator = DenseOperator(torch.diag(torch.linspace(-1, 3, 400)))
        >>> space = block_lanczos(
        ...     operator, torch.ones(400, 1), max_dimension=20, generator=torch.Generator()
        ... )
        >>> weights = quadrature_weights(space, RitzPairs.of(space))
        >>> tuple(weights.shape), round(float(weights.sum()), 6)
        ((20, 1), 1.0)
    """
    return (ritz.vectors.T @ space.start).square() / space.start.square().sum(dim=0)


def simple_eigenvalues(probe_weights: Tensor, ritz: RitzPairs, size: int) -> Tensor:
    """Which nodes are converged eigenvalues of multiplicity one, as far as the probes can tell."""
    converged = are_known(ritz, rtol=LOCK_RTOL)
    gaps = ritz.values.diff() > ritz.bounds[1:] + ritz.bounds[:-1]
    cluster = torch.cat([torch.zeros(1, dtype=torch.long), gaps.long().cumsum(0)])
    count = int(cluster[-1]) + 1
    members = torch.bincount(cluster, minlength=count).double()
    mass = torch.zeros(count, dtype=torch.float64).index_add(0, cluster, probe_weights.sum(dim=1))
    settled = torch.ones(count, dtype=torch.bool)
    settled[cluster[~converged]] = False
    freedom = members * probe_weights.shape[1]
    limit = torch.from_numpy(stats.chi2.isf(IMPLAUSIBLE, freedom.numpy()))
    simple = (settled & (mass * size <= limit))[cluster]
    # none where they leave too little mass to the others: then one occurs more often than it was
    # found, as a block finds no more copies than it is wide, and nothing says which
    rest = probe_weights[~simple].sum(dim=0)
    left = 1 - int(simple.sum()) / size
    return torch.zeros_like(simple) if float(rest.min()) < 0.5 * left else simple


def _lock(probe_weights: Tensor, simple: Tensor, size: int) -> Tensor:
    """Give the simple eigenvalues ``1/n`` each and scale the others to what is left."""
    if not bool(simple.any()):
        return probe_weights
    left = 1 - int(simple.sum()) / size
    locked = probe_weights * (left / probe_weights[~simple].sum(dim=0))
    locked[simple] = 1 / size
    return locked


def _bandwidth(nodes: Tensor, noise: float) -> float:
    """A hundredth of the range; of the one value where the range is rounding; of 1 for zero."""
    extent = float(nodes[-1] - nodes[0])
    if extent <= 2 * noise:
        extent = float(nodes[-1].abs())
    return BANDWIDTH_SHARE * (extent or 1.0)
