"""Spectrum reports made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from lightning_hessian.records import (
    Eigenvalues,
    NegativeMass,
    SpectralDensity,
    SpectrumReport,
    TraceEstimate,
)


def density_at(
    *nodes: float, bandwidth: float = 0.1, probes: int = 2, shares: Any = None
) -> SpectralDensity:
    """Equal weights unless ``shares`` gives each node's; the probes tell the same."""
    count = len(nodes)
    weights = torch.tensor(shares or [1 / count] * count, dtype=torch.float64)
    return SpectralDensity(
        nodes=torch.tensor(nodes, dtype=torch.float64),
        weights=weights,
        probe_weights=weights[:, None].expand(count, probes).clone(),
        bandwidth=bandwidth,
    )


def eigenvalues_at(
    values: Sequence[float], bounds: Sequence[float], converged: Sequence[bool] | None = None
) -> Eigenvalues:
    """With these bounds; converged unless told otherwise."""
    return Eigenvalues(
        values=torch.tensor(values, dtype=torch.float64),
        residual_bounds=torch.tensor(bounds, dtype=torch.float64),
        converged=torch.tensor(converged or [True] * len(values)),
    )


def trace_at(
    value: float, standard_error: float = 0.5, interval: tuple[float, float] = (11.0, 13.0)
) -> TraceEstimate:
    """Of ten probes."""
    return TraceEstimate(
        value=value,
        standard_error=standard_error,
        interval=interval,
        num_probes=10,
        converged=True,
    )


def report_at(step: int = 0, **changes: Any) -> SpectrumReport:
    """A full report: two largest eigenvalues, the second not converged, and one smallest."""
    fields: dict[str, Any] = {
        "largest": eigenvalues_at([4.0, 2.0], [0.01, 0.5], [True, False]),
        "smallest": eigenvalues_at([-1.0], [0.02], [True]),
        "trace": trace_at(12.0),
        "density": density_at(-1.0, 0.0, 4.0, shares=[0.1, 0.8, 0.1]),
        "negative_mass": NegativeMass(fraction=0.1, bracket=(0.05, 0.2), threshold=1e-4),
        "loss": 0.7,
        "gradient_norm": 0.3,
        "num_parameters": 1000,
        "num_samples": 26,
        "data": "all 26 samples of the training set (TensorDataset)",
        "num_hvps": 40,
        "gradient_seconds": 0.01,
        "seconds": 1.5,
        "overhead": 0.04,
        "num_skipped": 2,
        "global_step": step,
    }
    return SpectrumReport(**(fields | changes))


def failed_at(step: int = 0) -> SpectrumReport:
    """A report without numbers."""
    return SpectrumReport(failure="ValueError: no", seconds=0.1, global_step=step)
