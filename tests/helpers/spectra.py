"""Matrices with wanted eigenvalues, and sweeps over them."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_hessian.linalg import DenseOperator, KrylovSpace, block_lanczos, rademacher


def symmetric_with(
    eigenvalues: Tensor, *, seed: int = 0, dtype: torch.dtype = torch.float64
) -> Tensor:
    """A dense symmetric matrix with these eigenvalues and random orthonormal eigenvectors."""
    generator = torch.Generator().manual_seed(seed)
    size = len(eigenvalues)
    gaussian = torch.randn(size, size, generator=generator, dtype=torch.float64)
    vectors = torch.linalg.qr(gaussian)[0]
    matrix = (vectors * eigenvalues.double()) @ vectors.T
    return (0.5 * (matrix + matrix.T)).to(dtype)


def outliers_and_bulk(size: int = 500) -> Tensor:
    """Ten outliers above a Gaussian bulk, as of a trained classifier."""
    generator = torch.Generator().manual_seed(1)
    bulk = 0.1 * torch.randn(size - 10, generator=generator, dtype=torch.float64)
    return torch.cat([torch.linspace(5, 50, 10, dtype=torch.float64), bulk])


def power_law(size: int = 500) -> Tensor:
    """Positive, ``10 / k``."""
    return 10.0 / torch.arange(1, size + 1, dtype=torch.float64)


def symmetric_indefinite(size: int = 500) -> Tensor:
    """As much negative as positive, most of it near zero; the trace cancels."""
    return torch.linspace(-1, 1, size, dtype=torch.float64) ** 3


def rank_deficient(size: int = 200, rank: int = 6) -> Tensor:
    """Simple eigenvalues 1, 2, ... and zeros."""
    values = torch.zeros(size, dtype=torch.float64)
    values[:rank] = torch.arange(1, rank + 1, dtype=torch.float64)
    return values


def various(seed: int) -> Tensor:
    """One of six kinds of spectrum in turn, of random size, ascending."""
    generator = torch.Generator().manual_seed(seed)
    size = int(torch.randint(20, 120, (1,), generator=generator))
    normal = torch.randn(size, generator=generator, dtype=torch.float64)
    kinds = (
        normal,
        normal**3,
        normal.round(),  # multiplicities far above the block's width
        torch.cat([1 + 1e-6 * normal[:7], 0.1 * normal[7:]]),  # a nearly degenerate cluster
        torch.cat([normal[:6], torch.zeros(size - 6, dtype=torch.float64)]),
        normal.sign() * 10.0 ** (-8 * torch.linspace(0, 1, size, dtype=torch.float64)),
    )
    return kinds[seed % len(kinds)].sort().values


def sweep(
    matrix: Tensor, *, dimension: int, probes_per_block: int = 4, seed: int = 0
) -> KrylovSpace:
    """A Krylov space of a fixed dimension, grown from Rademacher probes."""
    generator = torch.Generator().manual_seed(seed)
    size = len(matrix)
    probes = rademacher(size, min(probes_per_block, size), generator=generator, dtype=matrix.dtype)
    return block_lanczos(
        DenseOperator(matrix),
        probes,
        max_dimension=dimension,
        generator=generator,
        should_stop=lambda space: False,
    )
