"""How much gradients and Hessians differ over samples, as far as the loss allows to tell."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lightning_hessian.linalg import Eigenpairs, leading_eigenvectors
from lightning_hessian.loss import Conductor, TrainingLoss
from lightning_hessian.options import DifferenceOptions
from lightning_hessian.records import Note, Separability
from lightning_hessian.studies.hessian_difference import hessian_differences
from lightning_hessian.studies.sample_moments import SampleMoments, gradient_moment, sample_moments


@dataclass(slots=True, eq=False)
class DerivativeStatistics:
    """What was measured with derivatives.

    Attributes:
        eigenvectors: ``(n, d)`` leading ones, or None.
        moments: Of gradients and Hessians over samples, or None.
        fields: Of the report.
        notes: What was left out, and why.
        num_hvps: Products spent.
    """

    eigenvectors: Tensor | None = None
    moments: SampleMoments | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    num_hvps: int = 0


def measure_derivatives(
    loss: TrainingLoss | Conductor,
    options: DifferenceOptions,
    separability: Separability,
    *,
    has_products: bool,
    generator: Callable[[int], torch.Generator],
) -> DerivativeStatistics:
    """Measure what the options ask for of gradients and Hessians; say what cannot be."""
    statistics = DerivativeStatistics()
    if not options.needs_products or not has_products:
        return statistics
    if options.num_eigenvectors:
        _find_eigenvectors(statistics, loss, options, generator(2))
    if not options.derivatives and not options.hessian_differences:
        return statistics
    if separability != "mean":
        text = (
            "How gradients and Hessians differ over samples was not measured: it is read off "
            "batches, whose loss must be the mean over their samples."
        )
        statistics.notes.append(Note("no-moments-of-derivatives", text))
        return statistics
    is_exact = loss.products.quality.method == "exact"
    if not is_exact:
        text = (
            "How Hessians differ over samples was not measured, as products are differences of "
            "gradients."
        )
        statistics.notes.append(Note("no-moments-of-hessians", text))
    if options.derivatives:
        _measure_moments(statistics, loss, options, is_exact, generator(3))
    if options.hessian_differences and is_exact:
        found = hessian_differences(
            loss,
            num_samples=options.hessian_differences,
            max_hvps=options.max_hvps,
            generator=generator(4),
        )
        statistics.num_hvps += found.num_hvps
        statistics.fields["hessian_difference_norms"] = found.norms
        statistics.fields["hessian_difference_bounds"] = found.residual_bounds
    return statistics


def _find_eigenvectors(
    statistics: DerivativeStatistics,
    loss: TrainingLoss | Conductor,
    options: DifferenceOptions,
    generator: torch.Generator,
) -> None:
    count = min(options.num_eigenvectors, loss.size)
    found: Eigenpairs = leading_eigenvectors(
        loss.products,
        count=count,
        max_hvps=options.max_hvps,
        generator=generator,
        product_error=lambda: loss.products.quality.error,
    )
    statistics.num_hvps += found.num_hvps
    statistics.eigenvectors = found.vectors
    # those of the deflation alone need not be exact
    shown = found.eigenvalues.converged[: options.num_shown_eigenvectors]
    missing = int((~shown).sum())
    if missing:
        text = (
            f"{missing} of {len(shown)} eigenvectors did not converge within "
            f"`max_hvps={options.max_hvps}`."
        )
        statistics.notes.append(Note("eigenvectors-not-converged", text))


def _measure_moments(
    statistics: DerivativeStatistics,
    loss: TrainingLoss | Conductor,
    options: DifferenceOptions,
    is_exact: bool,
    generator: torch.Generator,
) -> None:
    if not loss.sample.are_drawn:
        text = (
            "Batches are taken as they come: should samples within a batch be alike, gradients and "
            "Hessians differ less from sample to sample than it seems."
        )
        statistics.notes.append(Note("batches-as-they-come", text))
    if not is_exact:
        gradient, norm = gradient_moment(loss)
        statistics.fields |= {
            "gradient_norm": norm,
            "gradient_variance": gradient.value,
            "gradient_variance_standard_error": gradient.standard_error,
        }
        return
    moments = sample_moments(
        loss,
        basis=statistics.eigenvectors,
        dimensions=options.subspace or None,
        num_probes=options.num_probes,
        generator=generator,
    )
    statistics.moments = moments
    statistics.num_hvps += moments.num_hvps
    statistics.notes += moments.notes
    statistics.fields |= {
        "gradient_norm": math.sqrt(moments.gradient_norm_squared),
        "gradient_variance": moments.gradient_variance.value,
        "gradient_variance_standard_error": moments.gradient_variance.standard_error,
        "hessian_norm": math.sqrt(moments.hessian_norm_squared.value),
        "hessian_variance": moments.hessian_variance.value,
        "hessian_variance_standard_error": moments.hessian_variance.standard_error,
    }
