"""What the losses of many networks say of their width: shares, intervals, slopes, steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

Floats = npt.NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""From ``(..., n)``, or ``(..., n, 2)`` for pairs, to ``(...)``."""

BAD = 1.5
"""Times the median loss, above which a run is called bad."""
NUM_DRAWS = 4000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A number, and where it may lie with 95 % confidence."""

    value: float
    low: float
    high: float

    def __format__(self, style: str) -> str:
        return f"{self.value:{style}} ({self.low:{style}} to {self.high:{style}})"


def variance(losses: Floats) -> Floats:
    """Unbiased."""
    return np.asarray(losses.var(axis=-1, ddof=1))


def mean(losses: Floats) -> Floats:
    """Over networks."""
    return np.asarray(losses.mean(axis=-1))


def correlation(pairs: Floats) -> Floats:
    """Pearson's, of pairs ``(..., n, 2)``."""
    centred = pairs - pairs.mean(axis=-2, keepdims=True)
    products = (centred[..., 0] * centred[..., 1]).sum(axis=-1)
    return np.asarray(products / np.sqrt((centred**2).sum(axis=-2).prod(axis=-1)))


def redrawn(samples: Floats, statistic: Statistic, *, seed: int) -> Floats:
    """``(NUM_DRAWS,)`` values of a statistic, of as many networks drawn from these ``(n, ...)``."""
    generator = np.random.default_rng(seed)
    return statistic(samples[generator.integers(len(samples), size=(NUM_DRAWS, len(samples)))])


def bootstrap(samples: Floats, statistic: Statistic, *, seed: int = 0) -> Interval:
    """A statistic of ``(n, ...)`` networks, between percentiles of the same of redrawn ones."""
    return _interval(float(statistic(samples)), redrawn(samples, statistic, seed=seed), CONFIDENCE)


def bad_share(losses: Floats) -> Interval:
    """The share of losses above 1.5 times their median, with the exact interval of a share.

    A bootstrap would give none at all where no run is bad.
    """
    count = int((losses > BAD * np.median(losses)).sum())
    found = binomtest(count, len(losses)).proportion_ci(CONFIDENCE)
    return Interval(count / len(losses), found.low, found.high)


def local_slopes(widths: Sequence[int], losses: Sequence[Floats]) -> list[Interval]:
    """``d log variance / d log width`` between neighbouring widths, by the bootstrap.

    All intervals hold at once with 95 % confidence, so that they can be compared.
    """
    values = [np.log(variance(each)) for each in losses]
    drawn = [np.log(redrawn(each, variance, seed=seed)) for seed, each in enumerate(losses)]
    steps = [math.log(after / before) for before, after in pairwise(widths)]
    confidence = 1 - (1 - CONFIDENCE) / len(steps)
    return [
        _interval(
            float(values[i + 1] - values[i]) / step, (drawn[i + 1] - drawn[i]) / step, confidence
        )
        for i, step in enumerate(steps)
    ]


def is_one_power(slopes: Sequence[Interval]) -> bool:
    """Whether some slope is within all intervals, so that one power law could be true."""
    return max(each.low for each in slopes) <= min(each.high for each in slopes)


def steps(samples: Sequence[Floats], statistic: Statistic) -> list[str]:
    """Whether a statistic falls or rises from each width to the next, or whether that is open."""
    drawn = [redrawn(each, statistic, seed=seed) for seed, each in enumerate(samples)]
    found = []
    for before, after in pairwise(drawn):
        change = _interval(math.nan, after - before, CONFIDENCE)
        found.append("falls" if change.high < 0 else "rises" if change.low > 0 else "open")
    return found


def _interval(value: float, drawn: Floats, confidence: float) -> Interval:
    left = (1 - confidence) / 2
    low, high = np.quantile(drawn, [left, 1 - left])
    return Interval(value, float(low), float(high))
