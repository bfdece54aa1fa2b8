"""Everything that is to be known of the loss's change when samples are added, in one report."""

from __future__ import annotations

import math
from dataclasses import fields

import torch
from torch import Tensor

from lightning_hessian.errors import NonFiniteError, RefusedError
from lightning_hessian.loss import Conductor, TrainingLoss
from lightning_hessian.options import DifferenceOptions
from lightning_hessian.records import (
    HeldOutLosses,
    LossDifferenceReport,
    LossSurface,
    NeighbourhoodVariance,
    OrderStatistics,
)
from lightning_hessian.sample_losses import SampleLosses, held_out_losses, sample_losses
from lightning_hessian.studies.derivatives import DerivativeStatistics, measure_derivatives
from lightning_hessian.studies.directions import random_directions
from lightning_hessian.studies.neighbourhood import neighbourhood_variance
from lightning_hessian.studies.order_statistics import order_statistics
from lightning_hessian.studies.sample_moments import SampleMoments
from lightning_hessian.studies.surface import loss_surface, parameter_norm

MANY_ROUNDINGS = 100


def measure_loss_difference(
    loss: TrainingLoss | Conductor,
    options: DifferenceOptions,
    *,
    seed: int = 0,
    has_products: bool = True,
) -> LossDifferenceReport:
    """Measure how much the training loss moves when a sample is added.

    Costs three passes over the samples for their losses. Eigenvectors, where they are needed, take
    up to ``max_hvps`` products; derivatives two gradients and, with ``p`` probes and ``d``
    eigenvectors, ``2 (p + d)`` HVPs; each Hessian difference up to ``max_hvps``; each perturbation
    and each point of the surface one pass.

    Args:
        loss: At the present parameters, inside its sandbox.
        options: What to measure.
        seed: Of probes, perturbations and orders.
        has_products: Whether the loss can be differentiated; if not, what needs derivatives is left
            out.

    Returns:
        A report of the numbers; the circumstances are the caller's to fill in.

    Raises:
        RefusedError: If the loss of a batch is not made of the losses of its samples, or there are
            fewer than two samples.
        NonFiniteError: If a loss is NaN or infinite.
    """
    samples = sample_losses(loss)
    return _Measurement(loss, options, samples, seed, has_products).report()


class _Measurement:
    """The parts of one measurement, which share losses, eigenvectors and moments."""

    def __init__(
        self,
        loss: TrainingLoss | Conductor,
        options: DifferenceOptions,
        samples: SampleLosses,
        seed: int,
        has_products: bool,
    ) -> None:
        self._loss = loss
        self._options = options
        self._samples = samples
        self._seed = seed
        self._has_products = has_products
        self._notes = list(samples.notes)

    def report(self) -> LossDifferenceReport:
        """Measure the parts that are wanted."""
        options, losses = self._options, self._samples.values
        statistics = order_statistics(
            losses,
            sample_sizes=options.sample_sizes,
            num_orders=options.num_orders,
            block_size=options.block_size,
            generator=self._generator(0),
        )
        spread = measure_derivatives(
            self._loss,
            options,
            self._samples.separability,
            has_products=self._has_products,
            generator=self._generator,
        )
        self._notes += spread.notes
        held_out = self._held_out(losses, statistics.variance)
        neighbourhood = self._neighbourhood(losses, spread)
        surface = self._surface(losses, spread.eigenvectors)
        self._note_rounding(losses, statistics.variance)
        return LossDifferenceReport(
            **{f.name: getattr(statistics, f.name) for f in fields(OrderStatistics)},
            **spread.fields,
            loss=float(losses.mean()),
            loss_standard_error=math.sqrt(statistics.variance / len(losses)),
            separability=self._samples.separability,
            sample_method=self._samples.method,
            sample_losses=losses if options.keep_losses else losses[:0],
            held_out=held_out,
            neighbourhood=neighbourhood,
            surface=surface,
            thresholds=tuple(options.thresholds),
            num_parameters=self._loss.size,
            num_samples=len(losses),
            data=self._loss.sample.description,
            loss_name=self._loss.name,
            num_hvps=spread.num_hvps,
            notes=tuple(self._notes),
        )

    def _generator(self, part: int) -> torch.Generator:
        """One for each part, so that asking for one changes no number of another."""
        return torch.Generator().manual_seed(self._seed + 1_000_003 * part)

    def _note_rounding(self, losses: Tensor, variance: float) -> None:
        rounding = torch.finfo(self._loss.dtype).eps * float(losses.abs().max())
        if rounding > 0 and math.sqrt(variance) < MANY_ROUNDINGS * rounding:
            self._notes.append(
                "The losses differ by little more than their rounding, which all that follows from "
                "their differences is made of. Give `precision=64`."
            )

    def _held_out(self, losses: Tensor, variance: float) -> HeldOutLosses | None:
        # what was measured of the training samples is worth keeping
        try:
            found = held_out_losses(self._loss)
            if found is None:
                return None
            others, description = found
            statistics = order_statistics(
                others.values, sample_sizes=1, generator=self._generator(1)
            )
        except (RefusedError, NonFiniteError) as error:
            self._notes.append(f"Held-out samples were not measured: {error}")
            return None
        self._notes += [f"Held-out samples: {note}" for note in others.notes]
        mean, count = float(others.values.mean()), len(others.values)
        distances = (others.values - losses.mean()).abs()
        return HeldOutLosses(
            loss=mean,
            variance=statistics.variance,
            variance_standard_error=statistics.variance_standard_error,
            mean_absolute_deviation=statistics.mean_absolute_deviation,
            mean_absolute_deviation_standard_error=(
                statistics.mean_absolute_deviation_standard_error
            ),
            gap=mean - float(losses.mean()),
            gap_standard_error=math.sqrt(variance / len(losses) + statistics.variance / count),
            mean_distance=float(distances.mean()),
            mean_distance_standard_error=float(distances.std()) / math.sqrt(count),
            num_samples=count,
            data=description,
        )

    def _neighbourhood(
        self, losses: Tensor, spread: DerivativeStatistics
    ) -> tuple[NeighbourhoodVariance, ...]:
        """In all parameters, and in the leading eigenvectors where these are asked for."""
        moments, dimensions = spread.moments, self._options.subspace
        spaces: list[tuple[Tensor | None, SampleMoments | None]] = [(None, moments)]
        if dimensions and spread.eigenvectors is not None:
            within = None if moments is None else moments.subspace
            spaces.append((spread.eigenvectors[:, :dimensions], within))
        found = []
        for space, of_space in spaces:
            for sigma in self._options.sigmas:
                try:
                    part = neighbourhood_variance(
                        self._loss,
                        losses,
                        sigma=sigma,
                        num_perturbations=self._options.num_perturbations,
                        method=self._samples.method,
                        generator=self._generator(5),
                        basis=space,
                        moments=of_space,
                    )
                except (RefusedError, NonFiniteError) as error:
                    self._notes.append(f"V(sigma) was not measured: {error}")
                else:
                    found.append(part)
        return tuple(found)

    def _surface(self, losses: Tensor, basis: Tensor | None) -> LossSurface | None:
        options = self._options
        if options.surface is None or (options.surface == "eigenvectors" and basis is None):
            return None
        span = options.surface_span * parameter_norm(self._loss)
        if self._loss.size < 2 or span == 0:
            self._notes.append(
                "`surface` was left out: a plane through the weights takes two parameters, and "
                "weights that are not all zero to measure its extent by."
            )
            return None
        directions, plane = "the two leading eigenvectors", basis
        if options.surface == "random":
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
            num_points=options.surface_points,
            method=self._samples.method,
            directions=directions,
        )
