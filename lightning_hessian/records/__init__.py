"""Frozen records of what was measured: values with their errors, and how they are shown."""

from lightning_hessian.records.batch_sharpness import BatchSharpness, MinibatchLines
from lightning_hessian.records.critical_point import NEAR, CriticalPointReport, PointKind
from lightning_hessian.records.critical_point_parts import (
    Escape,
    IndexCount,
    LayerNorm,
    Nearness,
)
from lightning_hessian.records.declarations import Declared, declared
from lightning_hessian.records.estimate import BoundedEstimate, Estimate, EstimateWithBand
from lightning_hessian.records.gauss_newton import Alignment, GaussNewtonSplit, PartSpectrum
from lightning_hessian.records.json_values import JsonValue
from lightning_hessian.records.loss_difference import (
    LossDifferenceReport,
    SampleMethod,
    Separability,
)
from lightning_hessian.records.loss_difference_parts import (
    DerivativeSpread,
    DifferenceCurves,
    HeldOutLosses,
    HessianDifferences,
    LossSpread,
    LossSurface,
    NeighbourhoodVariance,
)
from lightning_hessian.records.note import Note
from lightning_hessian.records.output import (
    Band,
    Column,
    Derived,
    Group,
    Kind,
    Lines,
    Shown,
    derived,
    shown,
)
from lightning_hessian.records.product_quality import EXACT, HvpMethod, ProductQuality
from lightning_hessian.records.random_matrices import (
    Choice,
    FreeSumModel,
    MatrixModel,
    RandomMatrixComparison,
)
from lightning_hessian.records.report import Mode, Report, Weights
from lightning_hessian.records.required_sample_size import RequiredSampleSize, SampleSizeRule
from lightning_hessian.records.sampling_error import SamplingError
from lightning_hessian.records.schema import read_record
from lightning_hessian.records.search import (
    NO_MINIMUM,
    TRAJECTORY,
    MethodShare,
    ModuleMove,
    PassedPoint,
    SearchOutcome,
    SearchReport,
    SearchStep,
)
from lightning_hessian.records.spectrum_parts import (
    BlockTraces,
    Eigenvalues,
    EigenvectorOverlap,
    NegativeMass,
    ParameterBlock,
    SpectralDensity,
    Spectrum,
    TraceEstimate,
)
from lightning_hessian.records.spectrum_report import Engine, SpectrumReport
from lightning_hessian.records.stability import StabilityMargin

__all__ = [
    "EXACT",
    "NEAR",
    "NO_MINIMUM",
    "TRAJECTORY",
    "Alignment",
    "Band",
    "BatchSharpness",
    "BlockTraces",
    "BoundedEstimate",
    "Choice",
    "Column",
    "CriticalPointReport",
    "Declared",
    "DerivativeSpread",
    "Derived",
    "DifferenceCurves",
    "Eigenvalues",
    "EigenvectorOverlap",
    "Engine",
    "Escape",
    "Estimate",
    "EstimateWithBand",
    "FreeSumModel",
    "GaussNewtonSplit",
    "Group",
    "HeldOutLosses",
    "HessianDifferences",
    "HvpMethod",
    "IndexCount",
    "JsonValue",
    "Kind",
    "LayerNorm",
    "Lines",
    "LossDifferenceReport",
    "LossSpread",
    "LossSurface",
    "MatrixModel",
    "MethodShare",
    "MinibatchLines",
    "Mode",
    "ModuleMove",
    "Nearness",
    "NegativeMass",
    "NeighbourhoodVariance",
    "Note",
    "ParameterBlock",
    "PartSpectrum",
    "PassedPoint",
    "PointKind",
    "ProductQuality",
    "RandomMatrixComparison",
    "Report",
    "RequiredSampleSize",
    "SampleMethod",
    "SampleSizeRule",
    "SamplingError",
    "SearchOutcome",
    "SearchReport",
    "SearchStep",
    "Separability",
    "Shown",
    "SpectralDensity",
    "Spectrum",
    "SpectrumReport",
    "StabilityMargin",
    "TraceEstimate",
    "Weights",
    "declared",
    "derived",
    "read_record",
    "shown",
]
