"""The largest magnitude of a symmetric operator's eigenvalues."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from lightning_hessian.linalg.eigenvalues import are_known
from lightning_hessian.linalg.krylov import KrylovSpace, RitzPairs, sweep
from lightning_hessian.linalg.operator import SymmetricOperator


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpectralNorm:
    """An operator's norm ``max |lambda|``, approximated from below.

    Attributes:
        value: The larger magnitude of the two extreme Ritz values.
        residual_bound: An eigenvalue of the operator lies within this distance of that Ritz value.
        converged: Whether the bound meets the tolerance asked for.
        num_hvps: Products spent.
    """

    value: float
    residual_bound: float
    converged: bool
    num_hvps: int


def spectral_norm(
    operator: SymmetricOperator,
    *,
    rtol: float = 1e-2,
    max_hvps: int = 100,
    probes_per_block: int = 2,
    generator: torch.Generator,
    product_error: Callable[[], float] = lambda: 0.0,
) -> SpectralNorm:
    """Estimate ``||A|| = max(|largest|, |smallest|)`` by a sweep of both ends of the spectrum.

    The sweep ends when the end of larger magnitude has its residual bound within tolerance and the
    other end, its bound added, does not reach beyond it. The value is at most the norm, up to the
    products' own errors; it falls short of it by about the bound squared over the gap to the next
    eigenvalue.

    Costs one product for each dimension of the Krylov space.

    Args:
        operator: Symmetric.
        rtol: Tolerance of the residual bound, relative to the norm.
        max_hvps: Bound on the products.
        probes_per_block: Probes in a block.
        generator: Source of the probes, on the CPU.
        product_error: Norm of what the products are off by, asked after each block; part of every
            bound.

    Returns:
        The norm.

    Raises:
        ValueError: If ``max_hvps`` leaves no room for a block.

    Example:
        >>> from lightning_hessian.linalg import DenseOperator
        >>> operator = DenseOperator(torch.diag(torch.tensor([1.0, -3.0, 2.0])))
        >>> round(spectral_norm(operator, generator=torch.Generator()).value, 3)
        3.0
    """
    width = min(probes_per_block, operator.size)
    if max_hvps < width:
        raise ValueError(
            f"`max_hvps` must be at least the block's {width} products, got {max_hvps}. Give at "
            f"least {10 * width}."
        )

    def has_norm(space: KrylovSpace) -> bool:
        ritz = RitzPairs.of(space)
        dominant = _dominant(ritz)
        other = -1 - dominant
        reach = float(ritz.values[other].abs() + ritz.bounds[other])
        settled = reach <= float(ritz.values[dominant].abs())
        done = are_known(ritz, rtol=rtol)
        return bool(done[dominant]) and (settled or bool(done[other]))

    space = sweep(
        operator,
        width,
        max_dimension=max_hvps,
        generator=generator,
        should_stop=has_norm,
        product_error=product_error,
    )
    ritz = RitzPairs.of(space)
    dominant = _dominant(ritz)
    return SpectralNorm(
        value=float(ritz.values[dominant].abs()),
        residual_bound=float(ritz.bounds[dominant]),
        converged=bool(are_known(ritz, rtol=rtol)[dominant]),
        num_hvps=space.dimension,
    )


def _dominant(ritz: RitzPairs) -> int:
    """Index of the extreme Ritz value of larger magnitude: 0 or -1."""
    return 0 if float(-ritz.values[0]) > float(ritz.values[-1]) else -1
