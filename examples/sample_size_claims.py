"""Do wider networks move less when a sample is added, and deeper ones more? Tests by ranks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter
from scipy.stats import rankdata

Floats = npt.NDArray[np.float64]

NUM_SHUFFLES = 20_000
SIGNIFICANT = 0.05


@dataclass(frozen=True, kw_only=True)
class Trend:
    """Whether a quantity goes one way with a setting of the network.

    Attributes:
        settings: Widths or depths, ascending.
        direction: 1 where it is claimed to rise with the setting, -1 where to fall.
        correlations: Spearman's rank correlation with the setting, one for each seed.
        probability: That networks without any trend give a mean correlation as far in the claimed
            direction: one-sided, by shuffling the settings within each seed.
        opposite_probability: As far in the other direction.
        agreeing: For each pair of neighbouring settings, the seeds in which it goes as claimed.
        compared: For each pair, the seeds in which both have a value.
    """

    settings: tuple[int, ...]
    direction: int
    correlations: tuple[float, ...]
    probability: float
    opposite_probability: float
    agreeing: tuple[int, ...]
    compared: tuple[int, ...]

    @property
    def mean_correlation(self) -> float:
        """Over the seeds."""
        return float(np.mean(self.correlations))

    @property
    def verdict(self) -> str:
        """One of four."""
        if self.probability <= SIGNIFICANT:
            pairs = zip(self.agreeing, self.compared, strict=True)
            most = all(2 * agree > of for agree, of in pairs if of)
            return "holds" if most else "holds on the whole, not at every step"
        return "the opposite holds" if self.opposite_probability <= SIGNIFICANT else "undecided"

    @property
    def steps(self) -> str:
        """Seeds that agree at each step, like ``4-8: 1/3, 8-16: 3/3``."""
        pairs = itertools.pairwise(self.settings)
        counts = zip(pairs, self.agreeing, self.compared, strict=True)
        return ", ".join(f"{a}-{b}: {agree}/{of}" for (a, b), agree, of in counts)


def trend_of(settings: Sequence[int], values: Floats, *, direction: int, seed: int = 0) -> Trend:
    """Test whether a quantity rises or falls with a setting, over seeds.

    The mean over seeds of Spearman's rank correlation, against its distribution where the settings
    of each seed are shuffled (with a value in every place that is Page's test, 1963).

    Args:
        settings: ``(s,)`` ascending.
        values: ``(seeds, s)``; ``nan`` where there is none. A seed with fewer than two counts for
            nothing.
        direction: 1 or -1, the claim.
        seed: Of the shuffles.

    Raises:
        ValueError: If no seed has two values.
    """
    rows = [(np.flatnonzero(np.isfinite(row)), row) for row in values]
    ranks = [rankdata(row[there]) for there, row in rows if len(there) > 1]
    if not ranks:
        raise ValueError("`values` must hold at least two for one seed.")
    generator = np.random.default_rng(seed)
    shuffled = np.zeros(NUM_SHUFFLES)
    for r in ranks:
        orders = generator.permuted(np.tile(r, (NUM_SHUFFLES, 1)), axis=1)
        shuffled += _correlation_with_position(orders) / len(ranks)
    found = [float(_correlation_with_position(r[None])[0]) for r in ranks]
    # ties that rounding breaks would be counted out
    mean, least = direction * float(np.mean(found)), 1e-9
    extreme = np.sum(direction * shuffled >= mean - least)
    opposite = np.sum(direction * shuffled <= mean + least)
    steps = direction * np.diff(values, axis=1)
    return Trend(
        settings=tuple(settings),
        direction=direction,
        correlations=tuple(found),
        probability=float(extreme + 1) / (NUM_SHUFFLES + 1),
        opposite_probability=float(opposite + 1) / (NUM_SHUFFLES + 1),
        agreeing=tuple(int(n) for n in (steps > 0).sum(axis=0)),
        compared=tuple(int(n) for n in np.isfinite(steps).sum(axis=0)),
    )


def _correlation_with_position(ranks: Floats) -> Floats:
    """Spearman's correlation of each row with its order; 0 for a row of ties."""
    places = np.arange(ranks.shape[1]) - (ranks.shape[1] - 1) / 2
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1) * np.linalg.norm(places)
    products: Floats = centred @ places
    return np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)


def value_at_loss(losses: Sequence[float], values: Sequence[float], level: float) -> float:
    """Read a quantity off a training where its loss first falls to a level, between two points.

    Args:
        losses: Training loss in the course of the training.
        values: The quantity at the same points.
        level: Of the loss.

    Returns:
        ``nan`` if the loss begins at or below the level, or never falls to it.
    """
    for (above, before), (below, after) in itertools.pairwise(zip(losses, values, strict=True)):
        if above > level >= below:
            return before + (after - before) * (above - level) / (above - below)
    return math.nan


def exponential_average(curve: Floats, factor: float = 0.99) -> Floats:
    """Smooth a curve as the paper's script does: started at its first point.

    ``y_1 = x_1, y_k = factor y_{k-1} + (1 - factor) x_k``. What falls like ``1 / (k + 1)`` is then
    still 20 times too large at ``k = 100``, 3 times at 500.
    """
    smooth: Floats = lfilter([1 - factor], [1, -factor], curve, zi=[factor * curve[0]])[0]
    return smooth
