"""What points say of index and energy: correlations, and a power law with its exponent free.

Pennington and Bahri (2017), eq. 20: ``alpha ~ alpha_0 ((epsilon - epsilon_c) / epsilon_c)^beta``,
``beta = 3/2``, where the index ``alpha`` is small. It is fitted here as energy by index, ``epsilon
= epsilon_c + c alpha^(1 / beta)``: a search has its index given, and its energy is what comes of
it. The other way round, to keep small indices alone would choose points by what is to be explained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from examples.band_claims import CONFIDENCE, NUM_DRAWS, Floats, Interval, correlation
from lightning_hessian.theory import WishartPlusWigner

EXPONENTS: Floats = np.geomspace(0.2, 5, 801)
"""That are tried, 0.4 % apart."""
OF_THEORY: Floats = np.array([1.5])
FEWEST, FEWEST_INDICES = 10, 3
"""Points, and different indices among them, below which nothing is fitted."""
FLAT = 1e-12
ENERGIES: Floats = np.geomspace(1e-4, 100, 2000)


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerLaw:
    """``epsilon = critical_energy + slope alpha^(1 / exponent)``.

    Attributes:
        exponent: ``beta``, with what the bootstrap gives.
        critical_energy: ``epsilon_c``, likewise.
        slope: ``c``.
        residual: Root mean square of what is left, an energy.
        num_points: Saddles that it is fitted to.
    """

    exponent: Interval
    critical_energy: Interval
    slope: float
    residual: float
    num_points: int

    def energy(self, index: Floats) -> Floats:
        """At shares ``alpha``."""
        return self.critical_energy.value + self.slope * index ** (1 / self.exponent.value)


def rank_correlation(pairs: Floats) -> Floats:
    """Spearman's, of pairs ``(..., n, 2)``."""
    return correlation(rankdata(pairs, axis=-2))


def is_enough(pairs: Floats) -> bool:
    """Whether a power law can be fitted at all."""
    shares = pairs[pairs[:, 1] > 0, 1]
    return len(shares) >= FEWEST and len(np.unique(shares)) >= FEWEST_INDICES


def power_law(pairs: Floats, *, exponents: Floats = EXPONENTS, seed: int = 0) -> PowerLaw:
    """Fit energies and indices ``(n, 2)`` by least squares, for each exponent in closed form.

    Points of index zero are left out, as the law has them at any energy up to the critical one.

    Args:
        pairs: Energy and index of each point.
        exponents: Those that are tried; one alone is given.
        seed: Of the bootstrap over points.

    Raises:
        ValueError: If fewer than ten points, or than three indices, are left.
    """
    saddles = pairs[pairs[:, 1] > 0]
    if not is_enough(pairs):
        raise ValueError(
            f"`pairs` must hold at least {FEWEST} saddles of {FEWEST_INDICES} indices, got "
            f"{len(saddles)} of {len(np.unique(saddles[:, 1]))}. Search from more starts."
        )
    count = len(saddles)
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), NUM_DRAWS)
    drawn = _fits(saddles, exponents, weights / count)
    fit = _fits(saddles, exponents, np.full((1, count), 1 / count))
    return PowerLaw(
        exponent=_interval(fit[0], drawn[0]),
        critical_energy=_interval(fit[1], drawn[1]),
        slope=float(fit[2][0]),
        residual=float(fit[3][0]),
        num_points=count,
    )


def theory_at(indices: Sequence[float] | Floats, ratio: float) -> Floats:
    """``(n, 2)`` energies at which Wishart plus Wigner has these indices, and the indices."""
    curve = np.array([WishartPlusWigner(energy=each, ratio=ratio).index for each in ENERGIES])
    shares = np.asarray(indices, dtype=np.float64)
    # up to the critical energy all are zero, and from there on it rises
    rises = curve > 0
    return np.stack([np.interp(shares, curve[rises], ENERGIES[rises]), shares], axis=1)


def _fits(pairs: Floats, exponents: Floats, weights: Floats) -> tuple[Floats, ...]:
    """Exponent, critical energy, slope and residual ``(d,)`` for each of ``(d, n)`` weights."""
    energies = pairs[:, 0]
    # away from their means, so that differences of moments keep their digits
    powers = pairs[:, 1:] ** (1 / exponents)
    means, mean = powers.mean(axis=0), energies.mean()
    x, y = powers - means, energies - mean
    x_mean, y_mean = weights @ x, (weights @ y)[:, None]
    # a draw of one point alone has none
    spread = np.maximum(weights @ x**2 - x_mean**2, FLAT * x.var(axis=0))
    together = weights @ (x * y[:, None]) - x_mean * y_mean
    left = (weights @ y**2)[:, None] - y_mean**2 - together**2 / spread
    best = left.argmin(axis=1)
    rows = np.arange(len(weights))
    slope = together[rows, best] / spread[rows, best]
    middle = mean + y_mean[:, 0] - slope * (means[best] + x_mean[rows, best])
    residual = np.sqrt(np.maximum(left[rows, best], 0))
    return exponents[best], middle, slope, residual


def _interval(value: Floats, drawn: Floats) -> Interval:
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(value[0]), float(low), float(high))
