"""Live curvature of your own training loss for PyTorch Lightning."""

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

__version__ = "0.1.0"

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
]
