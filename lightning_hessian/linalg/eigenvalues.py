"""Both ends of the spectrum from a Krylov space."""

from __future__ import annotations

from torch import Tensor

from lightning_hessian.linalg.krylov import RitzPairs
from lightning_hessian.records import Eigenvalues

NORM_SHARE = 0.01


def largest_eigenvalues(ritz: RitzPairs, count: int, *, rtol: float) -> Eigenvalues:
    """Read off the algebraically largest eigenvalues, descending.

    A Ritz value at the upper end is a lower bound of its eigenvalue. It counts as converged when
    its residual bound is at most ``rtol * max(|theta|, 0.01 ||A||)``: eigenvalues below a hundredth
    of the operator's norm are held to an absolute tolerance, or a semi-definite operator's zeros
    would never converge. The actual error is mostly far smaller, about the bound squared over the
    distance to the next eigenvalue.

    Args:
        ritz: Of the space.
        count: How many, at most the space's dimension.
        rtol: Relative tolerance of the bound.

    Returns:
        Values, bounds, flags.
    """
    return _select(ritz, slice(-count, None) if count else slice(0, 0), rtol, descending=True)


def smallest_eigenvalues(ritz: RitzPairs, count: int, *, rtol: float) -> Eigenvalues:
    """Read off the algebraically smallest (most negative) eigenvalues, ascending.

    A Ritz value at the lower end is an upper bound of its eigenvalue; tolerances as for
    :func:`largest_eigenvalues`.

    Args:
        ritz: Of the space.
        count: How many, at most the space's dimension.
        rtol: Relative tolerance of the bound.

    Returns:
        Values, bounds, flags.
    """
    return _select(ritz, slice(0, count), rtol, descending=False)


def has_converged(ritz: RitzPairs, *, rtol: float) -> Tensor:
    """Which Ritz values meet the tolerance.

    Args:
        ritz: Of the space.
        rtol: Relative tolerance of the bound.

    Returns:
        ``(k,)`` bool.
    """
    floor = NORM_SHARE * ritz.scale
    return ritz.bounds <= rtol * ritz.values.abs().clamp_min(floor)


def end_order(count: int, *, num_largest: int, num_smallest: int) -> list[int]:
    """Positions, in ascending order of values, of those at both ends.

    Args:
        count: Number of values.
        num_largest: How many of the largest, at most ``count``.
        num_smallest: How many of the smallest.

    Returns:
        First those of the largest, descending, then of the smallest, ascending, without those that
        are among the largest already.
    """
    left = count - num_largest
    return [*range(count - 1, left - 1, -1), *range(min(num_smallest, left))]


def _select(ritz: RitzPairs, part: slice, rtol: float, *, descending: bool) -> Eigenvalues:
    fields = [x[part] for x in (ritz.values, ritz.bounds, has_converged(ritz, rtol=rtol))]
    if descending:
        fields = [x.flip(0) for x in fields]
    values, bounds, converged = fields
    return Eigenvalues(values=values, residual_bounds=bounds, converged=converged)
