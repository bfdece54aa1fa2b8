"""Frozen records of what was measured: values with their errors, plain floats and CPU tensors."""

from lightning_hessian.records.estimates import (
    BlockTraces,
    Eigenvalues,
    NegativeMass,
    SpectralDensity,
    Spectrum,
    TraceEstimate,
)
from lightning_hessian.records.json_values import JsonValue
from lightning_hessian.records.loss_difference import (
    LossDifferenceReport,
    SampleMethod,
    Separability,
)
from lightning_hessian.records.loss_statistics import (
    HeldOutLosses,
    LossSurface,
    NeighbourhoodVariance,
    OrderStatistics,
)
from lightning_hessian.records.note import Note
from lightning_hessian.records.product_quality import EXACT, ProductQuality
from lightning_hessian.records.report import Mode, Report, Weights
from lightning_hessian.records.required_sample_size import RequiredSampleSize, SampleSizeRule
from lightning_hessian.records.sampling_error import SamplingError
from lightning_hessian.records.spectrum_report import Engine, HvpMethod, SpectrumReport

__all__ = [
    "EXACT",
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
    "Note",
    "OrderStatistics",
    "ProductQuality",
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
]
