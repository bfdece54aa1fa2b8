"""The record of one measurement of a training loss's Hessian."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from lightning_hessian.results.estimates import SpectralDensity
from lightning_hessian.results.report import Report, no_numbers

HvpMethod = Literal["exact", "finite_difference"]
"""``exact``: double backward. ``finite_difference``: central differences of gradients."""


def _no_flags() -> Tensor:
    return torch.empty(0, dtype=torch.bool)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpectrumReport(Report):
    """One measurement of the training loss's Hessian: the numbers, their errors, and of what.

    Eigenvalues are in units of loss per squared parameter unit. A quantity that was not asked for,
    or of which ``failure`` tells why it is missing, is ``nan``, empty or None. Further attributes
    are those of :class:`Report`.

    Attributes:
        eigenvalues: ``(k,)`` float64, largest first (algebraically).
        residual_bounds: ``(k,)`` an eigenvalue lies within this distance.
        converged: ``(k,)`` bool, whether the bound meets ``rtol``.
        smallest_eigenvalues: ``(k',)`` float64, most negative first.
        smallest_residual_bounds: ``(k',)``.
        smallest_converged: ``(k',)`` bool.
        trace: Sum of all eigenvalues.
        trace_standard_error: Of the trace.
        trace_interval: 95 % confidence interval of the trace.
        density: Distribution of the eigenvalues, or None.
        negative_fraction: Share of eigenvalues below ``-negative_threshold``.
        negative_fraction_bracket: Its lower and upper bound.
        negative_threshold: In eigenvalue units.
        gradient_norm: Euclidean norm of the gradient of the loss.
        hvp: ``exact`` products, or differences of gradients.
        hvp_error: Estimated norm of what the products are off by, in eigenvalue units; part of
            every bound. Zero where they are exact.
        gradient_seconds: One gradient over the frozen samples: the unit of cost.
        unused_parameters: Names of selected parameters that the loss does not depend on.
    """

    eigenvalues: Tensor = field(default_factory=no_numbers)
    residual_bounds: Tensor = field(default_factory=no_numbers)
    converged: Tensor = field(default_factory=_no_flags)
    smallest_eigenvalues: Tensor = field(default_factory=no_numbers)
    smallest_residual_bounds: Tensor = field(default_factory=no_numbers)
    smallest_converged: Tensor = field(default_factory=_no_flags)
    trace: float = math.nan
    trace_standard_error: float = math.nan
    trace_interval: tuple[float, float] = (math.nan, math.nan)
    density: SpectralDensity | None = None
    negative_fraction: float = math.nan
    negative_fraction_bracket: tuple[float, float] = (math.nan, math.nan)
    negative_threshold: float = math.nan
    gradient_norm: float = math.nan
    hvp: HvpMethod = "exact"
    hvp_error: float = 0.0
    gradient_seconds: float = math.nan
    unused_parameters: tuple[str, ...] = ()
