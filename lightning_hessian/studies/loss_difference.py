"""Everything that is to be known of the loss's change when samples are added, in one report."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from lightning_hessian.estimators import Eigenpairs, leading_eigenvectors
from lightning_hessian.objective import (
    Conductor,
    SampleLosses,
    TrainingLoss,
    held_out_losses,
    sample_losses,
)
from lightning_hessian.operators import HessianOperator
from lightning_hessian.results import (
    HeldOutLosses,
    LossDifferenceReport,
    LossSurface,
    NeighbourhoodVariance,
    OrderStatistics,
)
from lightning_hessian.studies.directions import random_directions
from lightning_hessian.studies.hessian_difference import hessian_differences
from lightning_hessian.studies.neighbourhood import neighbourhood_variance
from lightning_hessian.studies.options import DifferenceOptions
from lightning_hessian.studies.order_statistics import order_statistics
from lightning_hessian.studies.sample_moments import SampleMoments, gradient_moment, sample_moments
from lightning_hessian.studies.surface import loss_surface, parameter_norm


def measure_loss_difference(
    loss: TrainingLoss | Conductor,
    options: DifferenceOptions,
    *,
    seed: int = 0,
    has_products: bool = True,
) -> LossDifferenceReport:
    """Measure how much the training loss moves when a sample is added.

    Costs one pass over the samples for their losses. Derivatives take two gradients and, for ``p``
    probes and ``D`` dimensions of the subspace, ``2 (p + D)`` HVPs; eigenvectors, and each Hessian
    difference, up to ``max_hvps``; each perturbation and each point of the surface one pass.

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
        self._num_hvps = 0

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
        basis = self._eigenvectors()
        moments, numbers = self._derivatives(basis)
        numbers |= self._hessian_differences()
        return LossDifferenceReport(
            **{f.name: getattr(statistics, f.name) for f in fields(OrderStatistics)},
            **numbers,
            loss=float(losses.mean()),
            loss_standard_error=math.sqrt(statistics.variance / len(losses)),
            separability=self._samples.separability,
            sample_method=self._samples.method,
            sample_losses=losses if options.keep_losses else losses[:0],
            held_out=self._held_out(losses, statistics.variance),
            neighbourhood=self._neighbourhood(losses, moments, basis),
            surface=self._surface(losses, basis),
            thresholds=tuple(options.thresholds),
            num_parameters=self._loss.size,
            num_samples=len(losses),
            data=self._loss.batches.description,
            loss_name=self._loss.name,
            num_hvps=self._num_hvps,
            notes=tuple(self._notes),
        )

    def _generator(self, part: int) -> torch.Generator:
        """One for each part, so that asking for one changes no number of another."""
        return torch.Generator().manual_seed(self._seed + 1_000_003 * part)

    def _held_out(self, losses: Tensor, variance: float) -> HeldOutLosses | None:
        found = held_out_losses(self._loss)
        if found is None:
            return None
        others, description = found
        statistics = order_statistics(others.values, sample_sizes=1, generator=self._generator(1))
        mean, count = float(others.values.mean()), len(others.values)
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
            num_samples=count,
            data=description,
        )

    def _eigenvectors(self) -> Tensor | None:
        """``(n, d)`` as many as the subspace or the surface needs."""
        options = self._options
        count = options.subspace if options.sigmas else 0
        if options.surface == "eigenvectors":
            count = max(count, 2)
        if count and not self._has_products:
            self._notes.append("Nothing was measured along eigenvectors, as there are no products.")
        if not count or not self._has_products:
            return None
        found: Eigenpairs = leading_eigenvectors(
            HessianOperator(self._loss),
            count=count,
            max_hvps=options.max_hvps,
            generator=self._generator(2),
            product_error=lambda: self._loss.products.error,
        )
        self._num_hvps += found.num_hvps
        missing = int((~found.eigenvalues.converged).sum())
        if missing:
            self._notes.append(
                f"{missing} of {count} eigenvectors did not converge within `max_hvps`="
                f"{options.max_hvps}."
            )
        return found.vectors

    def _derivatives(self, basis: Tensor | None) -> tuple[SampleMoments | None, dict[str, Any]]:
        """The spread of gradients and Hessians over samples."""
        if not self._options.derivatives or not self._has_products:
            return None, {}
        if self._samples.separability != "mean":
            self._notes.append(
                "The spread of gradients and Hessians over samples was not measured: it is read "
                "off batches whose loss is the mean over their samples."
            )
            return None, {}
        if not self._loss.batches.are_drawn:
            self._notes.append(
                "Batches are taken as they come: should samples in a batch be alike, the spread of "
                "gradients and Hessians over samples is smaller or larger than it seems."
            )
        if self._loss.products.method != "exact":
            gradient, norm = gradient_moment(self._loss)
            self._notes.append(
                "The spread of Hessians over samples was not measured, as products are differences "
                "of gradients."
            )
            return None, {
                "gradient_norm": norm,
                "gradient_variance": gradient.value,
                "gradient_variance_standard_error": gradient.standard_error,
            }
        space = None if basis is None or not self._in_subspace else basis[:, : self._dimensions]
        moments = sample_moments(
            self._loss,
            basis=space,
            num_probes=self._options.num_probes,
            generator=self._generator(3),
        )
        self._num_hvps += moments.num_hvps
        self._notes += moments.notes
        return moments, {
            "gradient_norm": math.sqrt(moments.gradient_norm_squared),
            "gradient_variance": moments.gradient_variance.value,
            "gradient_variance_standard_error": moments.gradient_variance.standard_error,
            "hessian_norm": math.sqrt(moments.hessian_norm_squared.value),
            "hessian_variance": moments.hessian_variance.value,
            "hessian_variance_standard_error": moments.hessian_variance.standard_error,
        }

    @property
    def _dimensions(self) -> int:
        return self._options.subspace

    @property
    def _in_subspace(self) -> bool:
        return self._dimensions > 0 and bool(self._options.sigmas)

    def _hessian_differences(self) -> dict[str, Any]:
        count = self._options.hessian_differences
        if not count or not self._has_products:
            return {}
        if self._loss.products.method != "exact":
            self._notes.append(
                "Differences of Hessians were not measured, for want of exact products."
            )
            return {}
        found = hessian_differences(
            self._loss,
            num_samples=count,
            max_hvps=self._options.max_hvps,
            generator=self._generator(4),
        )
        self._num_hvps += found.num_hvps
        return {
            "hessian_difference_norms": found.norms,
            "hessian_difference_bounds": found.residual_bounds,
        }

    def _neighbourhood(
        self, losses: Tensor, moments: SampleMoments | None, basis: Tensor | None
    ) -> tuple[NeighbourhoodVariance, ...]:
        spaces: list[tuple[Tensor | None, SampleMoments | None]] = [(None, moments)]
        if self._in_subspace and basis is not None:
            within = None if moments is None else moments.subspace
            spaces.append((basis[:, : self._dimensions], within))
        return tuple(
            neighbourhood_variance(
                self._loss,
                losses,
                sigma=sigma,
                num_perturbations=self._options.num_perturbations,
                method=self._samples.method,
                generator=self._generator(5),
                basis=space,
                moments=of_space,
            )
            for space, of_space in spaces
            for sigma in self._options.sigmas
        )

    def _surface(self, losses: Tensor, basis: Tensor | None) -> LossSurface | None:
        options = self._options
        if options.surface is None or (options.surface == "eigenvectors" and basis is None):
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
            span=options.surface_span * parameter_norm(self._loss),
            num_points=options.surface_points,
            method=self._samples.method,
            directions=directions,
        )
