"""Frozen records of what was measured: values with their errors, plain floats and CPU tensors."""

from lightning_hessian.results.estimates import (
    Eigenvalues,
    NegativeMass,
    SpectralDensity,
    Spectrum,
    TraceEstimate,
)
from lightning_hessian.results.primitives import JsonValue
from lightning_hessian.results.report import HvpMethod, Mode, SpectrumReport, Weights

__all__ = [
    "Eigenvalues",
    "HvpMethod",
    "JsonValue",
    "Mode",
    "NegativeMass",
    "SpectralDensity",
    "Spectrum",
    "SpectrumReport",
    "TraceEstimate",
    "Weights",
]
