"""Frozen records of what was measured: values with their errors, plain floats and CPU tensors."""

from lightning_hessian.results.deviation import deviation
from lightning_hessian.results.estimates import (
    BlockTraces,
    Eigenvalues,
    NegativeMass,
    SpectralDensity,
    Spectrum,
    TraceEstimate,
)
from lightning_hessian.results.loss_difference import (
    LossDifferenceReport,
    SampleMethod,
    Separability,
)
from lightning_hessian.results.loss_records import (
    HeldOutLosses,
    LossSurface,
    NeighbourhoodVariance,
    OrderStatistics,
)
from lightning_hessian.results.primitives import JsonValue
from lightning_hessian.results.report import Mode, Report, Weights
from lightning_hessian.results.required_sample_size import RequiredSampleSize, SampleSizeRule
from lightning_hessian.results.sampling_error import SamplingError
from lightning_hessian.results.spectrum_report import Engine, HvpMethod, SpectrumReport

__all__ = [
    "BlockTraces",
    "Eigenvalues",
    "Engine",
    "HeldOutLosses",
    "HvpMethod",
    "JsonValue",
    "LossDifferenceReport",
    "LossSurface",
    "Mode",
    "NegativeMass",
    "NeighbourhoodVariance",
    "OrderStatistics",
    "Report",
    "RequiredSampleSize",
    "SampleMethod",
    "SampleSizeRule",
    "SamplingError",
    "Separability",
    "SpectralDensity",
    "Spectrum",
    "SpectrumReport",
    "TraceEstimate",
    "Weights",
    "deviation",
]
