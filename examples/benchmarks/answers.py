"""What a contender answers, and how far that is from the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from examples.benchmarks.truth import Truth

LARGEST_ERROR, SMALLEST_ERROR, TRACE_ERROR = 1e-3, 1e-2, 0.05
"""Accuracy asked of all: largest of the five relative errors, relative error, relative rmse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole report.

    Attributes:
        largest: Five largest eigenvalues.
        smallest: The smallest, None where there is no answer.
        trace: Estimate.
        nodes: Of the density.
        weights: Sum to one.
        num_products: Hessian-vector products spent.
        seconds: Of the report, where it is made inside of something else; None where it is all.
    """

    largest: Sequence[float]
    smallest: float | None
    trace: float
    nodes: Sequence[float]
    weights: Sequence[float]
    num_products: int
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Relative to the truth; the density's in eigenvalue units.

    Attributes:
        largest: Largest of five.
        smallest: NaN where there is no answer.
        trace: Signed.
        density: Wasserstein-1 distance.
    """

    largest: float
    smallest: float
    trace: float
    density: float

    @classmethod
    def of(cls, answer: Answer, truth: Truth) -> Errors:
        """Compare."""
        largest = np.sort(np.asarray(answer.largest))[::-1]
        lowest = np.nan if answer.smallest is None else answer.smallest
        return cls(
            largest=float(np.max(np.abs(largest / truth.largest - 1))),
            smallest=float(abs(lowest / truth.smallest - 1)),
            trace=answer.trace / truth.trace - 1,
            density=density_distance(answer.nodes, answer.weights, truth),
        )


def density_distance(nodes: Sequence[float], weights: Sequence[float], truth: Truth) -> float:
    """Wasserstein-1 distance to the true distribution of the eigenvalues."""
    return float(stats.wasserstein_distance(nodes, truth.nodes, weights, truth.weights))
