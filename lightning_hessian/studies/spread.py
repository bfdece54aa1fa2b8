"""How far a mean over the measured batches lies from that over all samples and all draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lightning_hessian.hvp import AlongVectors
from lightning_hessian.studies.batch_statistics import (
    density_distance,
    quantile,
    sampling_share,
    trace_variance,
    variance,
)
from lightning_hessian.studies.draws import Draws

FEWEST_BATCHES = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spread:
    """Variances of means over ``N`` of ``M`` samples, each under one of infinitely many draws.

    The scatter of batches is ``S^2 = S_s^2 + S_d^2``, of samples and of draws, so that the variance
    is ``S_s^2 (1/N - 1/M) + S_d^2 / N = S^2 (1/N - 1/M) + S_d^2 / M``.

    Attributes:
        sizes: ``(B,)`` samples of each batch.
        population: ``M``; None where it is unknown or unbounded, and then ``S^2 / N``.
        draws: What ``S_d^2`` is read off; None without noise, or where ``M`` is unbounded.
    """

    sizes: Tensor
    population: int | None
    draws: Draws | None

    @property
    def num_samples(self) -> int:
        """``N``."""
        return round(float(self.sizes.sum()))

    @property
    def share(self) -> float:
        """``1/N - 1/M``."""
        return sampling_share(self.num_samples, self.population)

    @property
    def is_nothing(self) -> bool:
        """Whether the samples are all, without noise."""
        return self.share == 0 and self.draws is None

    @property
    def is_known(self) -> bool:
        """Whether there are enough batches."""
        return self.share == 0 or len(self.sizes) >= FEWEST_BATCHES

    @property
    def degrees_of_freedom(self) -> int:
        """Of Student's t: of the part that has fewer."""
        found = [len(self.sizes) - 1] if self.share > 0 or self.draws is None else []
        if self.draws is not None:
            found.append(self.draws.degrees_of_freedom)
        return max(min(found), 1)

    @property
    def quantile(self) -> float:
        """Student's t for two-sided intervals of 95 %."""
        return quantile(self.degrees_of_freedom + 1)

    def of(self, values: Tensor, drawn: Callable[[Draws], Tensor] | None = None) -> Tensor:
        """Of a quantity, from its means over batches ``(B, ...)``, and its variance over draws."""
        return self._sum(lambda: variance(self.sizes, values), drawn)

    def of_norms(self, deviations: Tensor, drawn: Callable[[Draws], Tensor]) -> Tensor:
        """The sum of those of all entries of a vector, from squared deviations ``(B, ...)``."""
        return self._sum(lambda: deviations.sum(dim=0) / (len(self.sizes) - 1), drawn)

    def of_trace(self, known: AlongVectors, probes: AlongVectors | None) -> float:
        """Of the trace, from above; in the draws the known vectors come first, then the probes."""

        def drawn(draws: Draws) -> Tensor:
            forms = draws.forms.diagonal(dim1=2, dim2=3)
            inside, outside = forms[:, :, : known.num_vectors], forms[:, :, known.num_vectors :]
            rest = outside.mean(dim=2) if outside.shape[2] else 0
            return draws.variance(inside.sum(dim=2) + rest)

        def scatter() -> Tensor:
            return torch.tensor(trace_variance(known, probes), dtype=torch.float64)

        return float(self._sum(scatter, drawn))

    def of_density(self, known: AlongVectors, probes: AlongVectors | None, size: int) -> float:
        """Bound of the Wasserstein-1 distance, samples and draws each taken to add to it."""
        distance = 0.0
        if self.share > 0:
            distance += density_distance(known, probes, self.share, size)
        if self.draws is not None:
            count = known.num_vectors
            drawn = [self.draws.along(which) for which in (slice(0, count), slice(count, None))]
            outside = None if probes is None else drawn[1]
            distance += density_distance(drawn[0], outside, self._per_draw, size)
        return distance

    def without_draws(self) -> Spread:
        """As if the samples were of infinitely many, from above."""
        return replace(self, population=None, draws=None)

    @property
    def _per_draw(self) -> float:
        return 0.0 if self.population is None else 1 / self.population

    def _sum(
        self, scatter: Callable[[], Tensor], drawn: Callable[[Draws], Tensor] | None
    ) -> Tensor:
        parts = [self.share * scatter()] if self.share > 0 else []
        if self.draws is not None and drawn is not None:
            parts.append(self._per_draw * drawn(self.draws))
        return torch.stack([part.double() for part in parts]).sum(dim=0)
