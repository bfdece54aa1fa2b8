"""Everything that is to be known of the loss's change when samples are added, in one report."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_hessian.errors import NonFiniteError, RefusedError
from lightning_hessian.loss import Conductor, TrainingLoss
from lightning_hessian.options import DifferenceOptions
from lightning_hessian.records import (
    Estimate,
    HeldOutLosses,
    LossDifferenceReport,
    LossSurface,
    NeighbourhoodVariance,
    Note,
)
from lightning_hessian.sample_losses import (
    RepeatedLosses,
    SampleLosses,
    samples_checked,
    samples_evaluated,
)
from lightning_hessian.studies.derivatives import Derivatives, measure_derivatives
from lightning_hessian.studies.directions import random_directions
from lightning_hessian.studies.neighbourhood import neighbourhood_variance
from lightning_hessian.studies.order_statistics import order_statistics
from lightning_hessian.studies.sample_moments import SampleMoments
from lightning_hessian.studies.study import tell_nobody
from lightning_hessian.studies.surface import loss_surface, parameter_norm
from lightning_hessian.studies.trade import FEWEST_SAMPLES, FORWARD, MOST_SAMPLES, PRODUCT

MANY_ROUNDINGS = 100
FIRST_PASSES = 2
"""Over the samples in the first report of a fit, whose losses are verified."""
HANDFUL = 22
"""Samples that are evaluated for it beside, alone and a few together."""
RESERVE = 1 / 5
"""Of the first report's surcharge, for which each one's share is kept; a fit of three reports needs
so much for the one between, of which the end, by its weight, counts three."""
GRADIENTS = 2
"""Of the loss, for the moments of the derivatives."""


class LossDifferenceStudy:
    """Measures how much the training loss moves when a sample is added.

    Args:
        options: What is asked for.
        seed: Of probes, perturbations and orders.
        has_held_out: Whether there are samples beside those of the training.
        may_regroup: Whether samples may be evaluated in larger batches than training has.
    """

    record: ClassVar[type[LossDifferenceReport]] = LossDifferenceReport
    fewest_samples: ClassVar[int] = FEWEST_SAMPLES

    def __init__(
        self,
        options: DifferenceOptions,
        seed: int,
        *,
        has_held_out: bool = False,
        may_regroup: bool = True,
    ) -> None:
        self._options = options
        self._seed = seed
        self._num_sets = 2 if has_held_out else 1
        self._losses = RepeatedLosses(may_regroup=may_regroup)

    def sample_size(self, allowance: float) -> int:
        """As many as it pays for, from 128 to 2,048: errors fall as the root of their number."""
        count = MOST_SAMPLES
        while count > FEWEST_SAMPLES and (price := self._share(count)) > allowance:
            # the price is nearly a multiple of the number
            count = max(min(int(count * allowance / price), count - 1), FEWEST_SAMPLES)
        return count

    def _share(self, num_samples: int) -> float:
        least = self.least_price(num_samples)
        return least + RESERVE * (self.least_price(num_samples, is_first=True) - least)

    def least_price(self, num_samples: int, *, is_first: bool = False) -> float:
        """Of every report; losses that have to be computed one by one are not foreseen."""
        options = self._options
        num_verified = HANDFUL if is_first else samples_checked(num_samples)
        evaluated = num_verified + num_samples * (FIRST_PASSES if is_first else 1)
        forward = self._num_sets * evaluated + options.num_displaced_passes * num_samples
        products = PRODUCT * options.expected_products + GRADIENTS * options.derivatives
        return FORWARD * forward + products * num_samples

    def setup_price(self, num_samples: int) -> float:  # noqa: ARG002
        """It is in the first report's."""
        return 0.0

    def fair_price(self, num_samples: int) -> float:
        """Of every report on so many samples."""
        return self.least_price(num_samples)

    def usual_price(self, num_samples: int) -> float:
        """The same."""
        return self.least_price(num_samples)

    def describe(self, num_samples: int, allowance: float) -> str:  # noqa: ARG002
        """Nothing to choose but the samples."""
        return f"{self.least_price(num_samples) / num_samples:.2g} gradients for each of these"

    def state(self) -> dict[str, Any]:
        """Nothing that another fit could rely on."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Nothing is read."""

    def max_hvps(
        self,
        loss: TrainingLoss,  # noqa: ARG002
        allowance: float | None = None,  # noqa: ARG002
        *,
        is_trial: bool = False,  # noqa: ARG002
    ) -> int:
        """Nothing to show progress by: most of the time goes into losses."""
        return 0

    def required_samples(self, report: LossDifferenceReport) -> int:
        """As many as there are."""
        return report.num_samples

    def settle(self) -> None:
        """Nothing is compared."""

    def measure(
        self,
        loss: TrainingLoss | Conductor,
        *,
        allowance: float | None = None,  # noqa: ARG002
        has_products: bool = True,
        on_gradient: Callable[[float], None] = tell_nobody,  # noqa: ARG002
        on_products: Callable[[int], None] = tell_nobody,  # noqa: ARG002
        is_trial: bool = False,  # noqa: ARG002
    ) -> LossDifferenceReport:
        """Measure the losses of single samples, then what the options ask for.

        Costs one pass over the samples for their losses, and a sixteenth of it to look again at a
        part of what the first report of a fit has verified in another; see :func:`sample_losses`.
        Eigenvectors, where they are needed, take up to ``max_hvps`` products; derivatives two
        gradients and, with ``p`` probes and ``d`` eigenvectors, ``2 (p + d)`` HVPs; each Hessian
        difference up to ``max_hvps``; each perturbation and each point of the surface one pass.
        What needs derivatives is left out where there are none. The report's cost counts the
        samples that were evaluated, and the products.

        Returns:
            See :meth:`Study.measure`.

        Raises:
            RefusedError: If the loss of a batch is not made of the losses of its samples, or there
                are fewer than two samples.
            NonFiniteError: If a loss is NaN or infinite.
        """
        before = samples_evaluated(loss)
        parts = _Parts(loss, self._options, self._losses, self._seed, has_products)
        report = parts.report()
        evaluated = samples_evaluated(loss) - before - parts.num_for_derivatives
        cost = FORWARD * evaluated + parts.gradients * report.num_samples
        return replace(report, cost=cost)


class _Parts:
    """The parts of one measurement, which share losses, eigenvectors and moments.

    Attributes:
        num_for_derivatives: Samples evaluated to differentiate.
        gradients: What derivatives cost, in gradients over all samples.
    """

    def __init__(
        self,
        loss: TrainingLoss | Conductor,
        options: DifferenceOptions,
        losses: RepeatedLosses,
        seed: int,
        has_products: bool,
    ) -> None:
        self._loss = loss
        self._options = options
        self._losses = losses
        self._samples: SampleLosses = losses.of(loss)
        self._seed = seed
        self._has_products = has_products
        self._notes = list(self._samples.notes)
        self.num_for_derivatives = 0
        self.gradients = 0.0

    def report(self) -> LossDifferenceReport:
        """Measure the parts that are wanted."""
        options, losses = self._options, self._samples.values
        statistics = order_statistics(
            losses,
            sample_sizes=options.sample_sizes,
            num_orders=options.num_orders,
            samples_per_step=options.samples_per_step,
            generator=self._generator(0),
        )
        derivatives = self._derivatives()
        variance = statistics.spread.variance.value
        held_out = self._held_out(losses, variance)
        neighbourhood = self._neighbourhood(losses, derivatives)
        surface = self._surface(losses, derivatives.eigenvectors)
        self._note_rounding(losses, variance)
        return LossDifferenceReport(
            loss=float(losses.mean()),
            loss_standard_error=math.sqrt(variance / len(losses)),
            differences=statistics.differences,
            spread=statistics.spread,
            separability=self._samples.separability,
            sample_method=self._samples.method,
            sample_losses=losses if options.keep_losses else losses[:0],
            held_out=held_out,
            gradient=derivatives.gradient,
            hessian=derivatives.hessian,
            neighbourhood=neighbourhood,
            hessian_differences=derivatives.hessian_differences,
            surface=surface,
            thresholds=tuple(options.thresholds),
            num_parameters=self._loss.size,
            num_samples=len(losses),
            data=self._loss.sample.description,
            loss_name=self._loss.name,
            num_hvps=derivatives.num_hvps,
            notes=tuple(self._notes),
        )

    def _derivatives(self) -> Derivatives:
        before = samples_evaluated(self._loss)
        derivatives = measure_derivatives(
            self._loss,
            self._options,
            self._samples.separability,
            self._samples.filling,
            has_products=self._has_products,
            generator=self._generator,
        )
        self.num_for_derivatives = samples_evaluated(self._loss) - before
        has_moments = derivatives.gradient is not None
        self.gradients = PRODUCT * derivatives.num_hvps + GRADIENTS * has_moments
        self._notes += derivatives.notes
        return derivatives

    def _generator(self, part: int) -> torch.Generator:
        """One for each part, so that asking for one changes no number of another."""
        return torch.Generator().manual_seed(self._seed + 1_000_003 * part)

    def _note_rounding(self, losses: Tensor, variance: float) -> None:
        rounding = torch.finfo(self._loss.dtype).eps * float(losses.abs().max())
        if rounding > 0 and math.sqrt(variance) < MANY_ROUNDINGS * rounding:
            self._notes.append(
                Note(
                    "losses-within-rounding",
                    "The losses differ by little more than their rounding, which all that follows "
                    "from their differences is made of. Give `precision=64`.",
                )
            )

    def _held_out(self, losses: Tensor, variance: float) -> HeldOutLosses | None:
        # what was measured of the training samples is worth keeping
        try:
            found = self._losses.held_out(self._loss)
            if found is None:
                return None
            others, description = found
            statistics = order_statistics(
                others.values, sample_sizes=1, generator=self._generator(1)
            )
        except (RefusedError, NonFiniteError) as error:
            self._notes.append(
                Note("held-out-not-measured", f"Held-out samples were not measured: {error}")
            )
            return None
        self._notes += [Note("held-out", f"Held-out samples: {note}") for note in others.notes]
        mean, count = float(others.values.mean()), len(others.values)
        distances = (others.values - losses.mean()).abs()
        gap_error = math.sqrt(variance / len(losses) + statistics.spread.variance.value / count)
        return HeldOutLosses(
            loss=mean,
            spread=statistics.spread,
            gap=Estimate(value=mean - float(losses.mean()), standard_error=gap_error),
            mean_distance=Estimate(
                value=float(distances.mean()),
                standard_error=float(distances.std()) / math.sqrt(count),
            ),
            num_samples=count,
            data=description,
        )

    def _neighbourhood(
        self, losses: Tensor, derivatives: Derivatives
    ) -> tuple[NeighbourhoodVariance, ...]:
        """In all parameters, and in the leading eigenvectors where these are asked for."""
        options = self._options.perturbations
        if options is None:
            return ()
        moments, dimensions = derivatives.moments, options.subspace
        spaces: list[tuple[Tensor | None, SampleMoments | None]] = [(None, moments)]
        if dimensions and derivatives.eigenvectors is not None:
            within = None if moments is None else moments.subspace
            spaces.append((derivatives.eigenvectors[:, :dimensions], within))
        found = []
        for space, of_space in spaces:
            for sigma in options.sigmas:
                try:
                    part = neighbourhood_variance(
                        self._loss,
                        losses,
                        sigma=sigma,
                        num_perturbations=options.count,
                        method=self._samples.method,
                        filling=self._samples.filling,
                        generator=self._generator(5),
                        basis=space,
                        moments=of_space,
                    )
                except (RefusedError, NonFiniteError) as error:
                    self._notes.append(
                        Note("neighbourhood-not-measured", f"V(sigma) was not measured: {error}")
                    )
                else:
                    found.append(part)
        return tuple(found)

    def _surface(self, losses: Tensor, basis: Tensor | None) -> LossSurface | None:
        plane_options = self._options.surface
        if plane_options is None or (plane_options.directions == "eigenvectors" and basis is None):
            return None
        span = plane_options.span * parameter_norm(self._loss)
        if self._loss.size < 2 or span == 0:
            self._notes.append(
                Note(
                    "surface-left-out",
                    "`surface` was left out: a plane through the weights takes two parameters, and "
                    "weights that are not all zero to measure its extent by.",
                )
            )
            return None
        directions, plane = "the two leading eigenvectors", basis
        if plane_options.directions == "random":
            directions = "two random directions"
            plane = random_directions(
                self._loss.size,
                2,
                generator=self._generator(6),
                device=self._loss.device,
                dtype=self._loss.dtype,
            )
        assert plane is not None
        return loss_surface(
            self._loss,
            losses,
            plane[:, 0],
            plane[:, 1],
            span=span,
            num_points=plane_options.points,
            method=self._samples.method,
            filling=self._samples.filling,
            directions=directions,
        )
