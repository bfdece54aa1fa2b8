"""How a mean over a few directions scatters where these are turned at random."""

from __future__ import annotations

import math


def deviation_over_subspaces(spread: float, size: int, count: int) -> float:
    """Of ``tr(A P) / (k tau(A))`` over random projectors ``P`` of rank ``k`` in ``n`` dimensions.

    ``Var tr(A P) = 2 k (n - k) (tau(A^2) - tau(A)^2) / ((n - 1) (n + 2))``, ``tau = tr / n``:
    for ``k = 1`` the variance of ``v.A v`` over the sphere, and zero for all of the space.

    Args:
        spread: ``tau(A^2) / tau(A)^2 - 1``, the squared coefficient of variation of eigenvalues.
        size: ``n``.
        count: ``k``.

    Returns:
        The standard deviation; the mean is 1.
    """
    if size < 2:
        return 0.0
    return math.sqrt(2 * (size - count) / (count * (size - 1) * (size + 2)) * max(spread, 0.0))
