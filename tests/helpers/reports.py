"""Spectrum reports made by hand."""

from __future__ import annotations

from typing import Any

import torch

from lightning_hessian.records import SpectralDensity, SpectrumReport


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


def report_at(step: int = 0, **changes: Any) -> SpectrumReport:
    """A full report: two largest eigenvalues, the second not converged, and one smallest."""
    fields: dict[str, Any] = {
        "eigenvalues": torch.tensor([4.0, 2.0], dtype=torch.float64),
        "residual_bounds": torch.tensor([0.01, 0.5], dtype=torch.float64),
        "converged": torch.tensor([True, False]),
        "smallest_eigenvalues": torch.tensor([-1.0], dtype=torch.float64),
        "smallest_residual_bounds": torch.tensor([0.02], dtype=torch.float64),
        "smallest_converged": torch.tensor([True]),
        "trace": 12.0,
        "trace_standard_error": 0.5,
        "trace_interval": (11.0, 13.0),
        "density": density_at(-1.0, 0.0, 4.0, shares=[0.1, 0.8, 0.1]),
        "negative_fraction": 0.1,
        "negative_fraction_bracket": (0.05, 0.2),
        "negative_threshold": 1e-4,
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
