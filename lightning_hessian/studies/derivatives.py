"""How much gradients and Hessians differ over samples, as far as the loss allows to tell."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lightning_hessian.linalg import Eigenpairs, leading_eigenvectors
from lightning_hessian.loss import Conductor, TrainingLoss
from lightning_hessian.options import DifferenceOptions
from lightning_hessian.records import (
    DerivativeSpread,
    HessianDifferences,
    Note,
    Separability,
)
from lightning_hessian.sample_losses import Filling
from lightning_hessian.studies.hessian_difference import hessian_differences
from lightning_hessian.studies.sample_moments import (
    SampleMoments,
    gradient_moment,
    sample_moments,
)


@dataclass(slots=True, eq=False)
class Derivatives:
    """What was measured with derivatives.

    Attributes:
        eigenvectors: ``(n, d)`` leading ones, or None.
        moments: Of gradients and Hessians over samples, or None.
        gradient: How gradients differ over samples, or None.
        hessian: How Hessians do, or None.
        hessian_differences: Of some samples from the others, or None.
        notes: What was left out, and why.
        num_hvps: Products spent.
    """

    eigenvectors: Tensor | None = None
    moments: SampleMoments | None = None
    gradient: DerivativeSpread | None = None
    hessian: DerivativeSpread | None = None
    hessian_differences: HessianDifferences | None = None
    notes: list[Note] = field(default_factory=list)
    num_hvps: int = 0


def measure_derivatives(
    loss: TrainingLoss | Conductor,
    options: DifferenceOptions,
    separability: Separability,
    filling: Filling,
    *,
    has_products: bool,
    generator: Callable[[int], torch.Generator],
) -> Derivatives:
    """Measure what the options ask for of gradients and Hessians; say what cannot be.

    Args:
        loss: At the present parameters.
        options: What to measure.
        separability: How the losses of samples make up a batch's.
        filling: How one sample becomes a batch of a size that the step takes.
        has_products: Whether the loss can be differentiated.
        generator: Gives a source of randomness for each part.

    Returns:
        The measurements.
    """
    found = Derivatives()
    if not options.needs_products or not has_products:
        return found
    if options.num_eigenvectors:
        _find_eigenvectors(found, loss, options, generator(2))
    if not options.derivatives and not options.hessian_differences:
        return found
    if separability != "mean":
        found.notes.append(
            Note(
                "derivatives-not-measured",
                "How gradients and Hessians differ over samples was not measured: it is read off "
                "batches, whose loss must be the mean over their samples.",
            )
        )
        return found
    is_exact = loss.products.quality.method == "exact"
    if not is_exact:
        found.notes.append(
            Note(
                "hessian-spread-not-measured",
                "How Hessians differ over samples was not measured, as products are differences of "
                "gradients.",
            )
        )
    if options.derivatives:
        _measure_moments(found, loss, options, is_exact, generator(3))
    if options.hessian_differences and is_exact:
        found.hessian_differences = hessian_differences(
            loss,
            num_samples=options.hessian_differences,
            max_hvps=options.solver.max_hvps,
            generator=generator(4),
            filling=filling,
        )
        found.num_hvps += found.hessian_differences.num_hvps
    return found


def _find_eigenvectors(
    found: Derivatives,
    loss: TrainingLoss | Conductor,
    options: DifferenceOptions,
    generator: torch.Generator,
) -> None:
    count = min(options.num_eigenvectors, loss.size)
    pairs: Eigenpairs = leading_eigenvectors(
        loss.products,
        count=count,
        max_hvps=options.solver.max_hvps,
        generator=generator,
        product_error=lambda: loss.products.quality.error,
    )
    found.num_hvps += pairs.num_hvps
    found.eigenvectors = pairs.vectors
    # those of the deflation alone need not be exact
    wanted = pairs.eigenvalues.converged[: options.num_shown_eigenvectors]
    missing = int((~wanted).sum())
    if missing:
        found.notes.append(
            Note(
                "eigenvectors-not-converged",
                f"{missing} of {len(wanted)} eigenvectors did not converge within "
                f"`max_hvps={options.solver.max_hvps}`.",
            )
        )


def _measure_moments(
    found: Derivatives,
    loss: TrainingLoss | Conductor,
    options: DifferenceOptions,
    is_exact: bool,
    generator: torch.Generator,
) -> None:
    if not loss.sample.are_drawn:
        found.notes.append(
            Note(
                "batches-not-drawn",
                "Batches are taken as they come: should samples within a batch be alike, gradients "
                "and Hessians differ less from sample to sample than it seems.",
            )
        )
    if not is_exact:
        gradient, norm = gradient_moment(loss)
        found.gradient = DerivativeSpread(norm=norm, variance=gradient)
        return
    moments = sample_moments(
        loss,
        basis=found.eigenvectors,
        dimensions=options.subspace or None,
        num_probes=options.num_probes,
        generator=generator,
    )
    found.moments = moments
    found.num_hvps += moments.num_hvps
    found.notes += moments.notes
    found.gradient = DerivativeSpread(
        norm=math.sqrt(moments.gradient_norm_squared), variance=moments.gradient_variance
    )
    found.hessian = DerivativeSpread(
        norm=math.sqrt(moments.hessian_norm_squared.value), variance=moments.hessian_variance
    )
