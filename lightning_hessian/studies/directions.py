"""Directions in the space of the parameters."""

from __future__ import annotations

import torch
from torch import Tensor


def random_directions(
    size: int,
    count: int,
    *,
    generator: torch.Generator,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draw orthonormal directions, uniformly over all of them.

    Gaussian vectors, made orthonormal; they are drawn on the CPU, so that a seed gives the same on
    every device. All parameters count alike: with each layer's part scaled to that layer's norm
    ("filter normalisation") the directions would not be orthonormal, nor distances on them
    comparable with those along eigenvectors.

    Args:
        size: Number of parameters, ``n``.
        count: Number ``d`` of directions, at most ``n``.
        generator: Source of randomness, on the CPU.
        device: Where the result lives; the CPU by default.
        dtype: Floating-point type of the result.

    Returns:
        ``(n, d)`` orthonormal columns.

    Raises:
        ValueError: If there are not so many orthogonal directions.

    Example:
        >>> plane = random_directions(5, 2, generator=torch.Generator().manual_seed(0))
        >>> torch.allclose(plane.T @ plane, torch.eye(2), atol=1e-6)
        True
    """
    if not 1 <= count <= size:
        raise ValueError(
            f"`count` must be between 1 and the {size} parameters, got {count}: there are no more "
            "orthogonal directions."
        )
    gaussian = torch.randn(size, count, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    # with a positive diagonal the factor is unique, and so as uniform as the Gaussian
    uniform: Tensor = q * r.diagonal().sign()
    return uniform.to(device=device, dtype=dtype)


def check_orthonormal(basis: Tensor, size: int, name: str) -> None:
    """Refuse directions that are not orthonormal.

    Args:
        basis: Directions in columns.
        size: Number of parameters, ``n``.
        name: Of the argument, for the message.

    Raises:
        ValueError: If ``basis`` is not ``(n, d)``, or off orthonormal by more than the root of its
            type's epsilon.
    """
    if basis.dim() != 2 or basis.shape[0] != size or not 1 <= basis.shape[1] <= size:
        raise ValueError(
            f"{name} must have shape ({size}, d), d from 1 to {size}, got {tuple(basis.shape)}."
        )
    gram = basis.double().T @ basis.double()
    departure = float((gram - torch.eye(basis.shape[1]).to(gram)).abs().max())
    if not departure <= torch.finfo(basis.dtype).eps ** 0.5:
        raise ValueError(
            f"{name} must be orthonormal, got |U^T U - 1| up to {departure:.3g}. Give "
            "`torch.linalg.qr(U)[0]` for the space that its columns span."
        )
