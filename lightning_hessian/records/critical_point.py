"""The record of what kind of point the weights are at."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from lightning_hessian.records.critical_point_parts import Escape, IndexCount, LayerNorm, Nearness
from lightning_hessian.records.output import LAST, Column, derived, shown
from lightning_hessian.records.product_quality import EXACT, ProductQuality
from lightning_hessian.records.report import NUM_HVPS, Report
from lightning_hessian.records.spectrum_parts import (
    PER_SQUARED_PARAMETER,
    Eigenvalues,
    SpectralDensity,
    TraceEstimate,
)

PointKind = Literal["minimum", "saddle", "flat", "not critical"]
"""What a point is; :attr:`CriticalPointReport.kind` has the rule."""

CRITICAL_NORM = 1e-8
"""Of a gradient in float64 that a search has brought to rest."""
NEAR, NEAR_RADIUS = 0.05, 0.01
"""Share of the gradient that may be left, within this share of the weights' length."""
FLAT, FLAT_LEFT, FLAT_RADIUS = 1e-3, 0.9, 0.1
"""Below the first ``|Hg|`` is small; above the second the gradient stays, within the third."""
DEGENERATE = 0.1
"""Share of eigenvalues around zero from which on a point is called degenerate."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CriticalPointReport(Report):
    """What kind of point the weights are, and how far from a critical one.

    The loss is that of the frozen samples, with ``w.W w / 2`` in it where weight decay was asked
    for. Further attributes are those of :class:`Report`.

    Attributes:
        gradient_norm: Euclidean norm of the gradient, ``|g|``.
        parameter_norm: Of the weights, ``|w|``.
        nearness: How far the gradient and the loss can fall within shares of ``|w|``.
        flatness: ``|H g| / (||H|| |g|)``, near zero where ``|g|`` is stationary.
        indices: Shares of negative and of vanishing eigenvalues, by three thresholds.
        largest: The largest eigenvalue.
        smallest: The most negative one.
        trace: From the sweep's own probe, so with a wider interval than one that is asked for.
        density: Likewise; None of a sweep of fewer products than 12.
        escape: Down the most negative direction; None without one below the threshold.
        layers: Norms of the parts of the weights.
        weight_decay: What is in the loss of weight decay, in words.
        products: How Hessian-vector products were made.
        gradient_seconds: One gradient over the frozen samples.
        unused_parameters: Names of selected parameters that the loss does not depend on.

    Example:
        >>> report = CriticalPointReport(
        ...     gradient_norm=0.3,
        ...     nearness=(Nearness(share=0.01, radius=0.1, gradient_left=0.45, decrease=0.02),),
        ... )
        >>> report.kind
        'not critical'
        >>> report.verdict
        "Not a critical point: within 1 % of the weights' length the linearised gradient can fall to
        0.45 of its length."
    """

    title: ClassVar[str] = "critical point"
    bulky: ClassVar[tuple[str, ...]] = ("density", "escape")

    gradient_norm: float = field(
        default=math.nan,
        metadata=shown(
            "gradient_norm",
            doc="norm of the loss's gradient on the frozen samples",
            unit="loss per parameter unit",
            columns=(Column("|g|", 10, "{:.3g}"),),
        ),
    )
    parameter_norm: float = field(
        default=math.nan,
        metadata=shown(
            "parameter_norm", doc="norm of the weights", unit="parameter unit", group="details"
        ),
    )
    nearness: tuple[Nearness, ...] = field(default=(), metadata=shown(""))
    flatness: float = field(
        default=math.nan,
        metadata=shown(
            "flatness",
            doc="`|H g| / (||H|| |g|)`: near zero where the gradient's norm is stationary",
        ),
    )
    indices: tuple[IndexCount, ...] = ()
    largest: Eigenvalues = field(
        default_factory=Eigenvalues,
        metadata=shown("eig", doc="the largest eigenvalue", unit=PER_SQUARED_PARAMETER),
    )
    smallest: Eigenvalues = field(
        default_factory=Eigenvalues,
        metadata=shown(
            "eig_min",
            doc="the most negative eigenvalue",
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
            group="details",
        ),
    )
    density: SpectralDensity | None = None
    escape: Escape | None = field(default=None, metadata=shown("escape_"))
    layers: tuple[LayerNorm, ...] = field(
        default=(), metadata=shown("norm/{name}", group="details")
    )
    weight_decay: str = "none"
    products: ProductQuality = field(
        default=EXACT, metadata=shown("", when=lambda products: products.method != "exact")
    )
    gradient_seconds: float = math.nan
    unused_parameters: tuple[str, ...] = ()

    @derived(shown(columns=(Column("gradient left in 1 %", 21, "{:.3f}"),)))
    def gradient_left(self) -> float:
        """``r(1 %)``; ``nan`` where it was not measured."""
        return self._within(NEAR_RADIUS)

    @property
    def is_critical(self) -> bool:
        """Whether the weights are a critical point, or near one."""
        return self.gradient_norm < CRITICAL_NORM or self.gradient_left < NEAR

    @derived(shown(""))
    def index(self) -> IndexCount | None:
        """By the first threshold, which the kind follows from."""
        return self.indices[0] if self.indices else None

    @derived(shown("", group="details"))
    def further_indices(self) -> tuple[IndexCount, ...]:
        """By the other thresholds."""
        return self.indices[1:]

    @derived(shown(columns=(Column("kind", 13, "{}"),)))
    def kind(self) -> PointKind:
        """What the weights are at or near, by the numbers of this report.

        Returns:
            Critical where ``|g| < 1e-8`` or ``r(1 %) < 0.05``: then ``saddle`` where an eigenvalue
            is below the first threshold for certain, by its residual bound, else ``minimum``. Of
            the others ``flat`` where ``r(10 %) > 0.9`` and ``|H g| < 1e-3 ||H|| |g|``: ``|g|`` is
            stationary there, but does not vanish. Else ``not critical``.
        """
        if self.is_critical:
            return "saddle" if self._has_descent else "minimum"
        is_stationary = self.flatness < FLAT and self._within(FLAT_RADIUS) > FLAT_LEFT
        return "flat" if is_stationary else "not critical"

    @derived(shown("is_critical", doc="1 at a critical point or near one, 0 elsewhere"))
    def critical(self) -> float:
        """The same as a number."""
        return float(self.is_critical)

    @property
    def is_degenerate(self) -> bool:
        """Whether a tenth of the eigenvalues or more are within the first threshold of zero."""
        return self.index is not None and self.index.null_bracket[0] > DEGENERATE

    @derived(shown("verdict", doc="the kind of point in a sentence", kind="text"))
    def verdict(self) -> str:
        """The kind in a sentence, with the numbers that it follows from."""
        if math.isnan(self.gradient_norm):
            return ""
        left, reach = self.gradient_left, self._within(FLAT_RADIUS)
        if self.kind == "flat":
            return (
                f"Flat, and not critical: the gradient's norm is stationary (|H g| is "
                f"{self.flatness:.1g} of ||H|| |g|), but within 10 % of the weights' length the "
                f"linearised gradient falls to {reach:.0%} of its length only."
            )
        fall = f"the linearised gradient can fall to {left:.2g} of its length"
        if self.kind == "not critical":
            return f"Not a critical point: within 1 % of the weights' length {fall}."
        if self.gradient_norm < CRITICAL_NORM:
            where = f"A {self.kind}: |g| is {self.gradient_norm:.1g}"
        else:
            where = f"Near a {self.kind}: within 1 % of the weights' length {fall}"
        return f"{where}{self._index_clause}."

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

    @property
    def _has_descent(self) -> bool:
        if self.index is None or not len(self.smallest.values):
            return False
        upper_end = float(self.smallest.values[0]) + float(self.smallest.residual_bounds[0])
        return upper_end < -self.index.threshold

    @property
    def _index_clause(self) -> str:
        index = self.index
        if index is None:
            return ""
        low, high = index.bracket
        clause = f"; {low:.3g} to {high:.3g} of the eigenvalues are below {-index.threshold:.2g}"
        if self.kind == "minimum":
            clause = (
                f"; no eigenvalue below {-index.threshold:.2g} was found, at most {high:.2g} of "
                "all may be there"
            )
        if self.is_degenerate:
            null = f"{index.null_bracket[0]:.2g} to {index.null_bracket[1]:.2g}"
            clause += f"; degenerate, with {null} of them around zero"
        return clause

    def _within(self, share: float) -> float:
        """What is left of the gradient within a share of the weights' length."""
        for each in self.nearness:
            if math.isclose(each.share, share):
                return each.gradient_left
        return math.nan
