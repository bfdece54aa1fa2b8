"""Both ends of the spectrum from a Krylov space."""

from __future__ import annotations

from torch import Tensor

from lightning_hessian.linalg.krylov import KrylovSpace, RitzPairs
from lightning_hessian.records import Eigenvalues

NORM_SHARE = 0.01


def largest_eigenvalues(
    ritz: RitzPairs, count: int, *, rtol: float, floor: float = 0.0
) -> Eigenvalues:
    """Read off the algebraically largest eigenvalues, descending.

    A Ritz value at the upper end is a lower bound of its eigenvalue. It counts as converged when
    its residual bound is at most ``rtol`` of the spectrum's range: what is small against that would
    take most of the products to be known to a share of itself, and tells no more. The actual error
    is mostly far smaller, about the bound squared over the distance to the next eigenvalue.

    Costs no product beyond the sweep.

    Args:
        ritz: Of the space.
        count: How many, at most the space's dimension.
        rtol: Tolerance of the bound, relative to the range.
        floor: Tolerance that is enough in any case, in eigenvalue units.

    Returns:
        Values, bounds, flags.

    Example:
        >>> import torch
        >>> from lightning_hessian.linalg import DenseOperator, block_lanczos
        >>> generator = torch.Generator().manual_seed(0)
        >>> space = block_lanczos(
        ...     DenseOperator(torch.diag(torch.linspace(0, 1, 100).square())),
        ...     torch.randn(100, 2, generator=generator),
        ...     max_dimension=50,
        ...     generator=generator,
        ... )
        >>> found = largest_eigenvalues(RitzPairs.of(space), 2, rtol=1e-2)
        >>> [round(value, 3) for value in found.values.tolist()], found.converged.tolist()
        ([1.0, 0.98], [True, True])
    """
    part = slice(-count, None) if count else slice(0, 0)
    return _select(ritz, part, rtol, floor, descending=True)


def smallest_eigenvalues(
    ritz: RitzPairs, count: int, *, rtol: float, floor: float = 0.0
) -> Eigenvalues:
    """Read off the algebraically smallest (most negative) eigenvalues, ascending.

    A Ritz value at the lower end is an upper bound of its eigenvalue; tolerances, cost and use as
    for :func:`largest_eigenvalues`.

    Args:
        ritz: Of the space.
        count: How many, at most the space's dimension.
        rtol: Tolerance of the bound, relative to the range.
        floor: Tolerance that is enough in any case, in eigenvalue units.

    Returns:
        Values, bounds, flags.

    Example:
        >>> import torch
        >>> from lightning_hessian.linalg import DenseOperator, block_lanczos
        >>> space = block_lanczos(
        ...     DenseOperator(torch.diag(torch.tensor([4.0, -2.0, 1.0]))),
        ...     torch.ones(3, 1),
        ...     max_dimension=3,
        ...     generator=torch.Generator(),
        ... )
        >>> round(float(smallest_eigenvalues(RitzPairs.of(space), 1, rtol=1e-2).values), 3)
        -2.0
    """
    return _select(ritz, slice(0, count), rtol, floor, descending=False)


def has_converged(ritz: RitzPairs, *, rtol: float, floor: float = 0.0) -> Tensor:
    """Which Ritz values are known to a share of the spectrum's range, ``(k,)`` bool."""
    return ritz.bounds <= max(rtol * ritz.extent, floor)


def are_known(ritz: RitzPairs, *, rtol: float) -> Tensor:
    """Which are known to a share of themselves, or of 1 % of the largest: ``(k,)`` bool."""
    return ritz.bounds <= rtol * ritz.values.abs().clamp_min(NORM_SHARE * ritz.scale)


def ends_have_converged(
    ritz: RitzPairs, *, num_largest: int, num_smallest: int, rtol: float, floor: float = 0.0
) -> bool:
    """Whether the space has as many values as are wanted, and they meet the tolerance."""
    if len(ritz.values) < num_largest + num_smallest:
        return False
    largest = largest_eigenvalues(ritz, num_largest, rtol=rtol, floor=floor)
    smallest = smallest_eigenvalues(ritz, num_smallest, rtol=rtol, floor=floor)
    return bool(largest.converged.all()) and bool(smallest.converged.all())


def end_order(count: int, *, num_largest: int, num_smallest: int) -> list[int]:
    """Positions, in ascending order of values, of those at both ends."""
    # first those of the largest, descending, then of the smallest, ascending, without those that
    # are among the largest already
    left = count - num_largest
    return [*range(count - 1, left - 1, -1), *range(min(num_smallest, left))]


def end_vectors(
    space: KrylovSpace, ritz: RitzPairs, *, num_largest: int, num_smallest: int
) -> Tensor:
    """Ritz vectors of the largest, descending, then of the smallest, ascending; each once."""
    order = end_order(len(ritz.values), num_largest=num_largest, num_smallest=num_smallest)
    return space.combine(ritz.vectors[:, order])


def _select(
    ritz: RitzPairs, part: slice, rtol: float, floor: float, *, descending: bool
) -> Eigenvalues:
    flags = has_converged(ritz, rtol=rtol, floor=floor)
    fields = [x[part] for x in (ritz.values, ritz.bounds, flags)]
    if descending:
        fields = [x.flip(0) for x in fields]
    values, bounds, converged = fields
    return Eigenvalues(values=values, residual_bounds=bounds, converged=converged)
