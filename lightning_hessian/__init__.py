"""Live curvature of your own training loss for PyTorch Lightning.

What it offers is imported when it is first asked for: TensorBoard, which looks in here for the
Hessian tab, and the command line's help need neither torch nor Lightning.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_hessian.analysis import analyze, at_checkpoint, search
    from lightning_hessian.callbacks import CriticalPoint, HessianSpectrum, LossDifference
    from lightning_hessian.hvp import as_outputs
    from lightning_hessian.options import Krylov, Loss, Perturbations, PyHessian, Solver, Surface
    from lightning_hessian.reading import RunReports, read_reports, reports_frame, spectra_figure
    from lightning_hessian.records import (
        CriticalPointReport,
        LossDifferenceReport,
        Note,
        SpectralDensity,
        SpectrumReport,
    )
    from lightning_hessian.viewing import write_page

__version__ = "0.1.0"

_ROOM_OF = {
    "CriticalPoint": "callbacks",
    "CriticalPointReport": "records",
    "HessianSpectrum": "callbacks",
    "Krylov": "options",
    "Loss": "options",
    "LossDifference": "callbacks",
    "LossDifferenceReport": "records",
    "Note": "records",
    "Perturbations": "options",
    "PyHessian": "options",
    "RunReports": "reading",
    "Solver": "options",
    "SpectralDensity": "records",
    "SpectrumReport": "records",
    "Surface": "options",
    "analyze": "analysis",
    "as_outputs": "hvp",
    "at_checkpoint": "analysis",
    "read_reports": "reading",
    "reports_frame": "reading",
    "search": "analysis",
    "spectra_figure": "reading",
    "write_page": "viewing",
}
_ROOMS = ("cli", "linalg", "records", "show", "studies", "theory")
"""Those that have parts for users, found without an import of their own."""

__all__ = [
    "CriticalPoint",
    "CriticalPointReport",
    "HessianSpectrum",
    "Krylov",
    "Loss",
    "LossDifference",
    "LossDifferenceReport",
    "Note",
    "Perturbations",
    "PyHessian",
    "RunReports",
    "Solver",
    "SpectralDensity",
    "SpectrumReport",
    "Surface",
    "analyze",
    "as_outputs",
    "at_checkpoint",
    "read_reports",
    "reports_frame",
    "search",
    "spectra_figure",
    "write_page",
]


def __getattr__(name: str) -> Any:
    """What is public, from its room."""
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_ROOM_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """For completion: what is public too."""
    return sorted({*globals(), *__all__})
