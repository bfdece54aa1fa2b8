"""Errors from the scatter of a few values."""

from __future__ import annotations

from scipy import stats


def widening(count: int) -> float:
    """By what a standard error from the scatter of a few values is to be multiplied.

    Such an error is itself uncertain: 1.96 of it from 4 normal values cover 85 % and not 95. Errors
    so widened can be used like known ones. For skewed values they are still somewhat small. The
    97.5 % quantile of Student's t with ``count - 1`` degrees of freedom, over the normal's.
    """
    return float(stats.t.ppf(0.975, count - 1) / stats.norm.ppf(0.975))
