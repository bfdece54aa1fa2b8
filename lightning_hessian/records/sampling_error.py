"""How far the spectrum of the full training set may be from that of the samples measured."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

from lightning_hessian.records.note import Note
from lightning_hessian.records.output import shown
from lightning_hessian.records.spectrum_parts import PER_SQUARED_PARAMETER


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SamplingError:
    """What a measurement on ``N`` samples drawn from ``M`` leaves open about all ``M``.

    All is zero where the samples are the population, unless the step draws random numbers: then
    it is of the mean over draws, too. ``nan`` where it is unknown: ``notes`` say
    why. Everything falls as ``f = 1/N - 1/M`` (biases) or its root (errors).

    Attributes:
        population: ``M``; None where it is unknown or unbounded.
        num_samples: ``N``.
        num_batches: Disjoint random batches that the errors are read off.
        degrees_of_freedom: Of Student's t for intervals by these errors.
        num_draws: Draws of the step's random numbers for each of some batches, whose scatter is in
            the errors; 0 without.
        eigenvalue_errors: ``(k,)`` float64, standard errors of the largest eigenvalues.
        eigenvalue_biases: ``(k,)`` float64, by how much these are too large on average. That of the
            largest is never negative, and estimated from above.
        smallest_errors: ``(k',)`` of the smallest eigenvalues.
        smallest_biases: ``(k',)``; negative for the smallest.
        largest_interval: 95 % confidence interval of the largest eigenvalue over all ``M``, its
            bias and the Krylov residual included.
        trace_error: Standard error of the trace.
        density_distance: 95 % bound of the Wasserstein-1 distance between both spectra, in
            eigenvalue units.
        num_hvps: Products spent on this.
        notes: What is missing or doubtful, and why.
    """

    population: int | None
    num_samples: int
    num_batches: int
    degrees_of_freedom: int
    num_draws: int
    eigenvalue_errors: Tensor = field(
        metadata=shown(
            "eig_{i}_sampling_error",
            doc="standard error of a largest eigenvalue, as that of the full training set",
            unit=PER_SQUARED_PARAMETER,
        )
    )
    eigenvalue_biases: Tensor
    smallest_errors: Tensor = field(
        metadata=shown(
            "eig_min_{i}_sampling_error",
            doc="standard error of a smallest eigenvalue, as that of the full training set",
            unit=PER_SQUARED_PARAMETER,
        )
    )
    smallest_biases: Tensor
    largest_interval: tuple[float, float]
    trace_error: float = field(
        metadata=shown(
            "trace_sampling_error",
            doc="standard error of the trace, as that of the full training set",
            unit=PER_SQUARED_PARAMETER,
        )
    )
    density_distance: float = field(
        metadata=shown(
            "density_sampling_distance",
            doc="95 % bound of the Wasserstein distance to the full training set's density",
            unit=PER_SQUARED_PARAMETER,
        )
    )
    num_hvps: int
    notes: tuple[Note, ...] = ()

    @property
    def leaves_open(self) -> bool:
        """Whether the samples are fewer than the population, or a draw is one of many."""
        return self.population != self.num_samples or self.num_draws > 0

    @property
    def largest_margin(self) -> float:
        """Half the length of the largest eigenvalue's interval."""
        low, high = self.largest_interval
        return (high - low) / 2

    def required_samples(
        self,
        *,
        largest: float = math.inf,
        trace: float = math.inf,
        density: float = math.inf,
    ) -> int:
        """How many samples bring the errors within tolerances, by the laws that they fall by.

        The present ones are enough where the answer is not above ``num_samples``.

        Args:
            largest: Wanted ``largest_margin``, in eigenvalue units.
            trace: Wanted ``trace_error``, in the trace's units.
            density: Wanted ``density_distance``, in eigenvalue units.

        Returns:
            At most the population; twice as many as now where an error is unknown.

        Raises:
            ValueError: If a tolerance is not positive.
        """
        for name, tolerance in (("largest", largest), ("trace", trace), ("density", density)):
            if not tolerance > 0:
                raise ValueError(
                    f"`{name}` must be a positive tolerance, got {tolerance}. Leave it out where "
                    "any error will do."
                )
        bias = float(self.eigenvalue_biases[0]) if len(self.eigenvalue_biases) else 0.0
        bias = min(bias, self.largest_margin)
        shares = [
            _share(0.0, self.trace_error, trace),
            _share(0.0, self.density_distance, density),
            _share(bias, self.largest_margin - bias, largest),
        ]
        most = math.inf if self.population is None else self.population
        if any(math.isnan(share) for share in shares):
            return int(min(2 * self.num_samples, most))
        now = 1 / self.num_samples - 1 / most
        if now == 0 or min(shares) >= 1:
            return self.num_samples
        # rounded down first by a little, so that an exact whole number stays one
        return int(min(math.ceil((1 - 1e-12) / (min(shares) * now + 1 / most)), most))


def _share(bias: float, error: float, tolerance: float) -> float:
    """To what share of itself ``f`` has to fall so that ``f bias + sqrt(f) error <= tolerance``."""
    if math.isinf(tolerance) or bias + error <= tolerance:
        return 1.0
    # in a form that does not cancel where the bias is small
    return (2 * tolerance / (error + math.sqrt(error**2 + 4 * bias * tolerance))) ** 2
