"""From how many samples on one more moves the mean loss by less than a threshold: the laws.

They are those of a random order of the samples, ``d_k = L_{k+1} - L_k``, and exact or nearly so.
The question is that of N. Kiselev and A. Grabovoy (2024), arXiv 2409.11995, whose worst cases are
in ``lightning_hessian.theory``.
"""

from __future__ import annotations

import math


def rms_difference(variance: float, k: float) -> float:
    """Root mean square of ``d_k`` over random orders, ``S / sqrt(k (k + 1))``, exactly.

    ``S^2`` is the losses' variance, divisor ``N - 1``, or the population's.
    """
    return math.sqrt(variance / (k * (k + 1)))


def sample_size_by_rms(variance: float, threshold: float) -> int:
    """Smallest ``k`` from which on ``S / sqrt(k (k + 1)) <= threshold``.

    The positive root of ``k^2 + k = S^2 / threshold^2``, rounded up.
    """
    return max(1, math.ceil((math.hypot(1, 2 * math.sqrt(variance) / threshold) - 1) / 2))


def sample_size_by_mean_abs(mean_distance: float, threshold: float) -> int:
    """Smallest ``k`` with ``A / (k + 1) <= threshold``.

    ``A = (k + 1) E |d_k|`` falls to ``MAD`` as ``k`` grows and is never above twice that.
    """
    return max(1, math.ceil(mean_distance / threshold) - 1)


def sample_size_uniform(
    variance: float, threshold: float, delta: float, num_samples: int | None = None
) -> int:
    """``k`` from which on the mean loss stays within a threshold of its limit, all ``j`` at once.

    ``L_N, L_{N-1}, ..., L_k`` is a martingale in this direction, so that Doob's inequality gives

        ``P(max_{j >= k} |L_j - L_N| >= t) <= (S^2 / t^2) (1/k - 1/N)``,

    at most ``delta`` from ``k = 1 / (1/N + delta t^2 / S^2)`` on. Conservative: the inequality uses
    second moments alone. Without ``N`` the limit is the population's mean.
    """
    if variance == 0:
        return 1
    share = 0.0 if num_samples is None else 1 / num_samples
    # rounding may lift the root of an exact whole number just above it
    return max(1, math.ceil((1 - 1e-12) / (share + delta * threshold**2 / variance)))
