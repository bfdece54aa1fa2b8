"""The callback, cheap."""

from __future__ import annotations

from typing import Any

from lightning_hessian import HessianSpectrum, Krylov
from lightning_hessian.callbacks import MeasuringCallback


def spectrum(**options: Any) -> HessianSpectrum:
    """Two blocks of products, no trace, no density, all that is due, and errors raised."""
    cheap: dict[str, Any] = {
        "num_eigenvalues": 1,
        "trace": False,
        "density": False,
        "solver": Krylov(max_hvps=8),
        "max_overhead": None,
        "on_error": "raise",
    }
    return HessianSpectrum(**(cheap | options))


def steps(callback: MeasuringCallback[Any]) -> list[int]:
    """Where it measured."""
    return [report.global_step for report in callback.reports]
