"""What disjoint random batches tell about the mean over all samples, for numbers and Hessians."""

from __future__ import annotations

import math

import torch
from scipy import stats
from torch import Tensor

from lightning_hessian.hvp import AlongVectors
from lightning_hessian.statistics import widening

LEVEL = 0.95


def sampling_share(num_samples: int, population: int | None) -> float:
    """``1/N - 1/M``: variance of a mean of ``N`` of ``M`` samples, in units of ``S^2``."""
    if population is None:
        return 1 / num_samples
    if population < num_samples:
        raise ValueError(
            f"`population` must be at least the {num_samples} samples measured, got {population}. "
            "Give the size of the set they were drawn from, or None if it is unknown."
        )
    return 1 / num_samples - 1 / population if population > num_samples else 0.0


def quantile(num_batches: int) -> float:
    """Student's t for two-sided intervals of 95 % from at least two batches."""
    return float(stats.t.ppf((1 + LEVEL) / 2, num_batches - 1))


def variance(sizes: Tensor, values: Tensor) -> Tensor:
    """``S^2`` of a quantity over samples from its means over batches ``(B, ...)``; unbiased."""
    centred = values - torch.tensordot(sizes / sizes.sum(), values, dims=1)
    squares: Tensor = torch.tensordot(sizes, centred.square(), dims=1)
    return squares / (len(sizes) - 1)


def trace_variance(known: AlongVectors, probes: AlongVectors | None) -> float:
    """``S^2`` of the trace over samples, from above.

    The variance over batches of what all probes together estimate holds the probes' own noise,
    which is what differs between batches off the diagonal. It is left in: what pairs of different
    probes have in common would be unbiased, but as likely below the truth as above, down to
    nothing, where a few probes on a few batches are all there is.

    Args:
        known: Along orthonormal vectors.
        probes: Along Rademacher probes less their part in the span of these; None where the span
            is everything.

    Returns:
        Unbiased where the span is everything; else too large on average, by the noise.
    """
    sizes, traces = known.sizes, known.forms.sum(dim=1)
    if probes is not None:
        traces = traces + probes.forms.mean(dim=1)
    return float(variance(sizes, traces))


def density_distance(
    known: AlongVectors, probes: AlongVectors | None, share: float, size: int
) -> float:
    r"""Bound the Wasserstein-1 distance of the spectra of ``H_N`` and ``H_M``.

    With ``D = H_N - H_M`` and eigenvalues in order (Lidskii, Mirsky; Hoffman & Wielandt),

        ``W1 <= ||D||_* / n``  and  ``W1 <= W2 <= ||D||_F / sqrt(n)``.

    A known space ``Q`` of ``k`` dimensions splits ``D`` into its block within ``Q``, the two beside
    it, whose nuclear norms are at most ``sqrt(k)`` times their Frobenius norms, and the rest:
    ``||D||_* <= sqrt(5 k) ||D Q||_F + sqrt(n) ||D P||_F``, ``P`` projecting onto the complement.
    The smaller of both bounds is taken. For batches ``E ||H_b - H||_F^2 = S_H^2 (1/n_b - 1/N)``,
    likewise ``E ||D||_F^2 = S_H^2 (1/N - 1/M)``; the squares are bounded by what another batch of
    that size would show in 97.5 % of cases (a prediction interval by Student's t).

    Args:
        known: Along the orthonormal basis of ``Q``.
        probes: Along Rademacher probes times ``P``; None where ``Q`` is everything.
        share: ``1/N - 1/M``.
        size: ``n``.

    Returns:
        In eigenvalue units.

    References:
        L. Mirsky (1960), Quart. J. Math. 11, 50-59; A. J. Hoffman, H. W. Wielandt (1953), Duke
        Math. J. 20, 37-39.
    """
    inside = known.deviations
    outside = inside.new_zeros(len(inside), 1) if probes is None else probes.deviations
    within = share * _upper(inside.sum(dim=1, keepdim=True))
    beyond = share * _upper(outside)
    both = share * _upper(inside.sum(dim=1, keepdim=True) + outside)
    split = math.sqrt(5 * known.num_vectors * within) / size + math.sqrt(beyond / size)
    return min(split, math.sqrt(both / size))


def _upper(squares: Tensor) -> float:
    """Of ``S^2``, for another draw, from squared deviations ``(B, p)`` as each probe sees them."""
    count, probes = squares.shape
    scaled = squares.clamp_min(0) * count / (count - 1)
    each = scaled.mean(dim=1)
    spread = quantile(count) * float(each.std()) * math.sqrt(1 + 1 / count)
    if probes > 1:
        noise = 1.96 * widening(probes) * float(scaled.mean(dim=0).std()) / math.sqrt(probes)
        spread = math.hypot(spread, noise)
    return float(each.mean()) + spread
