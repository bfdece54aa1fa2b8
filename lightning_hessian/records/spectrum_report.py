"""The record of one measurement of a training loss's Hessian."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from lightning_hessian.records.batch_sharpness import BatchSharpness
from lightning_hessian.records.estimate import BoundedEstimate, Estimate
from lightning_hessian.records.output import LAST, Band, Column, derived, shown
from lightning_hessian.records.product_quality import EXACT, ProductQuality
from lightning_hessian.records.report import NUM_HVPS, Report
from lightning_hessian.records.sampling_error import SamplingError
from lightning_hessian.records.spectrum_parts import (
    PER_SQUARED_PARAMETER,
    Eigenvalues,
    EigenvectorOverlap,
    NegativeMass,
    ParameterBlock,
    SpectralDensity,
    TraceEstimate,
)
from lightning_hessian.records.stability import StabilityMargin

Engine = Literal["krylov", "pyhessian"]
"""``krylov``: this package's own. ``pyhessian``: PyHessian, as published."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpectrumReport(Report):
    """One measurement of the training loss's Hessian: the numbers, their errors, and of what.

    Eigenvalues are in units of loss per squared parameter unit. A quantity that was not asked for,
    or of which ``failure`` tells why it is missing, is ``nan``, empty or None. Further attributes
    are those of :class:`Report`.

    Attributes:
        largest: The largest eigenvalues (algebraically), largest first.
        smallest: The smallest, most negative first.
        trace: Sum of all eigenvalues; its errors include that of the products.
        frobenius_norm: Root of the sum of all squared eigenvalues, ``||H||_F``; measured together
            with the trace, at no further product.
        density: Distribution of the eigenvalues.
        negative_mass: Share of the eigenvalues below zero.
        gradient_norm: Euclidean norm of the gradient of the loss.
        products: How Hessian-vector products were made, and what they are off by: part of every
            bound.
        sampling: How far the full training set's numbers may be from these; None where it was not
            asked for, or there are no exact products.
        blocks: The diagonal blocks that were asked for.
        overlap: Of the eigenvectors with those of the report before.
        edge: How far the optimiser is from its edge of stability; None where it was not asked for,
            or is not known.
        batch_sharpness: Curvature of single steps along their own gradients; None where it was not
            asked for, or cannot be measured.
        unused_parameters: Names of selected parameters that the loss does not depend on.
        gradient_seconds: One gradient over the frozen samples: the unit of cost.
        graph_bytes: Memory of the gradient graphs that were kept between products.
        engine: What computed it.

    Example:
        >>> import torch
        >>> from lightning_hessian.records import Eigenvalues
        >>> report = SpectrumReport(largest=Eigenvalues(values=torch.tensor([4.0, 1.0])))
        >>> report.largest.values.tolist(), report.trace
        ([4.0, 1.0], None)
    """

    title: ClassVar[str] = "Hessian of the training loss"
    bulky: ClassVar[tuple[str, ...]] = ("density",)

    largest: Eigenvalues = field(
        default_factory=Eigenvalues,
        metadata=shown(
            "eig",
            doc="largest eigenvalues (algebraically), `num_eigenvalues` of them",
            unit=PER_SQUARED_PARAMETER,
        ),
    )
    smallest: Eigenvalues = field(
        default_factory=Eigenvalues,
        metadata=shown(
            "eig_min",
            doc="smallest, most negative eigenvalues, `num_smallest` of them",
            unit=PER_SQUARED_PARAMETER,
            columns=(Column("smallest eigenvalue", 22),),
        ),
    )
    trace: TraceEstimate | None = field(
        default=None,
        metadata=shown(
            "trace",
            doc="sum of all eigenvalues",
            unit=PER_SQUARED_PARAMETER,
            chart=Band("trace and its 95 % interval"),
            columns=(Column("trace", 17),),
        ),
    )
    frobenius_norm: Estimate | None = field(
        default=None,
        metadata=shown(
            "frobenius_norm",
            doc="root of the sum of all squared eigenvalues, on the frozen samples",
            unit=PER_SQUARED_PARAMETER,
            columns=(Column("Frobenius norm", 17),),
        ),
    )
    density: SpectralDensity | None = None
    negative_mass: NegativeMass | None = field(
        default=None,
        metadata=shown(
            "negative_",
            columns=(Column("negative share", 16, "{0.bracket[0]:.3f} to {0.bracket[1]:.3f}"),),
        ),
    )
    gradient_norm: float = field(
        default=math.nan,
        metadata=shown(
            "gradient_norm",
            doc="norm of the loss's gradient on the frozen samples",
            unit="loss per parameter unit",
        ),
    )
    products: ProductQuality = field(
        default=EXACT, metadata=shown("", when=lambda products: products.method != "exact")
    )
    sampling: SamplingError | None = field(
        default=None, metadata=shown("", when=lambda sampling: sampling.leaves_open, group="errors")
    )
    blocks: tuple[ParameterBlock, ...] = field(default=(), metadata=shown("", group="layers"))
    overlap: EigenvectorOverlap | None = field(default=None, metadata=shown(""))
    edge: StabilityMargin | None = field(default=None, metadata=shown("edge_"))
    batch_sharpness: BatchSharpness | None = field(default=None, metadata=shown("batch_sharpness"))
    unused_parameters: tuple[str, ...] = ()
    gradient_seconds: float = math.nan
    graph_bytes: int = 0
    engine: Engine = "krylov"

    @derived(
        shown(
            "eig_1_lower",
            "eig_1_upper",
            doc="95 % interval of the largest eigenvalue, as that of the full training set",
            unit=PER_SQUARED_PARAMETER,
            chart=Band("largest eigenvalue and its 95 % interval"),
            group="errors",
        )
    )
    def largest_interval(self) -> tuple[float, float] | None:
        """What is known of the full training set's largest eigenvalue, with all errors."""
        # of the frozen samples where these are all, or nothing tells of the others; None where few
        # products leave its upper end open
        if not len(self.largest.values):
            return None
        value, bound = float(self.largest.values[0]), float(self.largest.residual_bounds[0])
        ends = value - bound, value + bound
        if self.sampling is not None and self.sampling.leaves_open:
            ends = self.sampling.largest_interval
        return ends if all(map(math.isfinite, ends)) else None

    @derived(shown(columns=(Column("largest eigenvalue", 21, place=LAST // 2 - 1),)))
    def largest_with_error(self) -> BoundedEstimate | None:
        """The largest eigenvalue and the distance to the farther end of its interval."""
        if not len(self.largest.values):
            return None
        value, ends = float(self.largest.values[0]), self.largest_interval
        far = math.nan if ends is None else max(value - ends[0], ends[1] - value)
        return BoundedEstimate(value=value, bound=far)

    num_hvps: int = field(
        default=0,
        metadata=shown(
            "num_hvps",
            doc=NUM_HVPS,
            unit="products",
            columns=(Column("HVPs", 5, "{}", place=LAST),),
            group="cost",
        ),
    )
