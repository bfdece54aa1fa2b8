"""The record of one measurement of a training loss's Hessian."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from lightning_hessian.records.estimates import SpectralDensity
from lightning_hessian.records.report import Report, no_numbers
from lightning_hessian.records.sampling_error import SamplingError

Engine = Literal["krylov", "pyhessian"]
"""``krylov``: this package's own. ``pyhessian``: PyHessian, as published."""

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
        sampling: How far the full training set's numbers may be from these; None where it was not
            asked for, or there are no exact products.
        blocks: Names of the diagonal blocks that were asked for.
        block_traces: ``(B,)`` their traces.
        block_trace_standard_errors: ``(B,)``.
        block_eigenvalues: ``(B, j)`` largest eigenvalues of each block, ``nan`` where it has fewer.
        block_residual_bounds: ``(B, j)``.
        eigenvector_overlaps: ``(k,)`` cosine between each of the largest eigenvalues' vectors and
            its partner in the report before, 0 to 1; ``nan`` without one.
        eigenvector_partners: ``(k,)`` number of that partner, from 0; -1 without one.
        subspace_overlap: Share of the one set of vectors in the span of the other, 0 to 1.
        graph_bytes: Memory of the gradient graphs that were kept between products.
        engine: What computed it.
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
    sampling: SamplingError | None = None
    blocks: tuple[str, ...] = ()
    block_traces: Tensor = field(default_factory=no_numbers)
    block_trace_standard_errors: Tensor = field(default_factory=no_numbers)
    block_eigenvalues: Tensor = field(default_factory=no_numbers)
    block_residual_bounds: Tensor = field(default_factory=no_numbers)
    eigenvector_overlaps: Tensor = field(default_factory=no_numbers)
    eigenvector_partners: Tensor = field(default_factory=no_numbers)
    subspace_overlap: float = math.nan
    graph_bytes: int = 0
    engine: Engine = "krylov"
