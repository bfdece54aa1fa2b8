"""The directions of largest curvature, from a Krylov space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_hessian.linalg.eigenvalues import ends_have_converged, largest_eigenvalues
from lightning_hessian.linalg.krylov import RitzPairs, sweep
from lightning_hessian.linalg.operator import SymmetricOperator
from lightning_hessian.records import Eigenvalues


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Eigenpairs:
    """Approximate eigenvectors with their eigenvalues, the largest first.

    Attributes:
        vectors: ``(n, d)`` orthonormal columns, in the operator's type, on its device. Of each, the
            entry of largest magnitude is positive (the first of these, where several are equal).
        eigenvalues: ``d`` of them, with residual bounds and flags.
        num_hvps: Products spent.
    """

    vectors: Tensor
    eigenvalues: Eigenvalues
    num_hvps: int


def leading_eigenvectors(
    operator: SymmetricOperator,
    *,
    count: int,
    rtol: float = 1e-2,
    max_hvps: int = 200,
    probes_per_block: int = 4,
    generator: torch.Generator,
    product_error: Callable[[], float] = lambda: 0.0,
) -> Eigenpairs:
    """Find the eigenvectors of the algebraically largest eigenvalues.

    One block Lanczos sweep goes on until the residual bound of each of the ``count`` largest Ritz
    values is within tolerance. A vector is at an angle of at most ``bound / gap`` to an eigenvector
    (its sine), ``gap`` being the distance to the nearest other eigenvalue: within a cluster only
    the subspace is determined. What was not reached within ``max_hvps`` is marked, not refused.

    Costs one product for each dimension of the Krylov space.

    Args:
        operator: Symmetric.
        count: Number ``d`` of vectors.
        rtol: Tolerance of the residual bounds, as for :func:`largest_eigenvalues`.
        max_hvps: Bound on the products.
        probes_per_block: Probes in a block.
        generator: Source of the probes, on the CPU.
        product_error: Norm of what the products are off by, asked after each block; part of every
            bound.

    Returns:
        The vectors.

    Raises:
        ValueError: If there are not so many eigenvectors, or ``max_hvps`` is below ``count`` or
            one block.

    References:
        B. N. Parlett (1998), "The symmetric eigenvalue problem", theorem 11.7.1 (the angle).

    Example:
        >>> from lightning_hessian.linalg import DenseOperator
        >>> operator = DenseOperator(torch.diag(torch.tensor([1.0, 5.0, 2.0])))
        >>> pairs = leading_eigenvectors(operator, count=1, generator=torch.Generator())
        >>> round(float(pairs.eigenvalues.values), 3), int(pairs.vectors[:, 0].argmax())
        (5.0, 1)
    """
    if not 1 <= count <= operator.size:
        raise ValueError(
            f"`count` must be between 1 and the operator's {operator.size} dimensions, got {count}."
        )
    width = min(probes_per_block, operator.size)
    # whole blocks only, unless all of R^n is taken in
    least = min(-(-count // width) * width, operator.size)
    if max_hvps < least:
        raise ValueError(
            f"`max_hvps` must be at least {least} for {count} eigenvectors by blocks of {width}, "
            f"got {max_hvps}. Give some ten times as many for them to converge."
        )

    space = sweep(
        operator,
        width,
        max_dimension=max_hvps,
        generator=generator,
        should_stop=lambda space: ends_have_converged(
            RitzPairs.of(space), num_largest=count, num_smallest=0, rtol=rtol
        ),
        product_error=product_error,
    )
    ritz = RitzPairs.of(space)
    return Eigenpairs(
        vectors=_with_fixed_signs(
            space.combine(ritz.vectors[:, -count:].flip(1)).to(operator.device)
        ),
        eigenvalues=largest_eigenvalues(ritz, count, rtol=rtol),
        num_hvps=space.dimension,
    )


def _with_fixed_signs(vectors: Tensor) -> Tensor:
    """Turn each column so that its entry of largest magnitude is positive."""
    peaks = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
    return vectors * peaks.sign()
