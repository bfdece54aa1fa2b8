"""Matrices with wanted eigenvalues."""

from __future__ import annotations

import torch
from torch import Tensor


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
