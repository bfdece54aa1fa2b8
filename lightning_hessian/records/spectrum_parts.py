"""What the estimators give: values with their errors, plain floats and CPU float64 tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lightning_hessian.records.estimate import Estimate
from lightning_hessian.records.no_numbers import no_flags, no_numbers
from lightning_hessian.records.note import Note
from lightning_hessian.records.output import Band, shown

PER_SQUARED_PARAMETER = "loss per squared parameter unit"
"""Unit of the Hessian's entries and eigenvalues."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Eigenvalues:
    """Approximate eigenvalues, each with a bound on its distance to a true one.

    Attributes:
        values: ``(k,)`` float64, in the order asked for; empty where none was.
        residual_bounds: ``(k,)``; an eigenvalue of the operator lies within this distance.
        converged: ``(k,)`` bool, whether the bound meets the tolerance asked for.
    """

    values: Tensor = field(default_factory=no_numbers, metadata=shown("_{i}"))
    residual_bounds: Tensor = field(
        default_factory=no_numbers,
        metadata=shown(
            "_{i}_bound", error_of="values", doc="an eigenvalue lies within this distance"
        ),
    )
    converged: Tensor = field(default_factory=no_flags)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockTraces:
    """Estimated traces of diagonal blocks, from the probes of the whole trace.

    Attributes:
        values: ``(B,)`` float64.
        standard_errors: ``(B,)`` from the probes' scatter; ``nan`` with a single probe.
    """

    values: Tensor
    standard_errors: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TraceEstimate:
    """Stochastic estimate of a trace.

    Attributes:
        value: The estimate, in units of the operator's diagonal.
        standard_error: Of ``value``, from the probes' scatter; rounding when the trace is exact.
            In a report on a part of the training set that of the samples is in it, too, which
            ``sampling.trace_error`` tells alone.
        interval: Two-sided 95 % confidence interval by Student's t; in a report with both errors.
        num_probes: Fresh probes drawn, each one product.
        converged: Whether ``standard_error`` meets the tolerance asked for.
        blocks: Traces of the diagonal blocks that were asked for, or None.
        squares: Sum of all squared eigenvalues, ``||A||_F^2``, from the same products.
    """

    value: float = field(metadata=shown(""))
    standard_error: float = field(
        metadata=shown("_standard_error", error_of="value", doc="standard error")
    )
    interval: tuple[float, float] = field(
        metadata=shown("_lower", "_upper", error_of="value", doc="95 % interval")
    )
    num_probes: int = 0
    converged: bool = False
    blocks: BlockTraces | None = None
    squares: Estimate | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpectralDensity:
    """The distribution of the eigenvalues as nodes and weights, integrating to one.

    A smooth curve is drawn with a Gaussian kernel whose width is a fixed share of the spectrum's
    range, so that the density of ``c H`` is the density of ``H`` stretched by ``c``.

    Attributes:
        nodes: ``(k,)`` float64 ascending, in eigenvalue units.
        weights: ``(k,)`` share of the eigenvalues at each node; non-negative, sum one.
        probe_weights: ``(k, b)`` the same from each probe alone; ``weights`` is their mean.
        bandwidth: Standard deviation of the kernel, in eigenvalue units.

    Raises:
        ValueError: If a weight is negative, or the weights do not sum to one.
    """

    nodes: Tensor
    weights: Tensor
    probe_weights: Tensor
    bandwidth: float

    def __post_init__(self) -> None:
        mass = float(self.weights.sum())
        if not (float(self.weights.min()) >= 0 and abs(mass - 1) <= 1e-9):
            raise ValueError(
                f"`weights` of a spectral density must be non-negative and sum to 1, got a sum of "
                f"{mass!r} and a minimum of {float(self.weights.min())!r}. The Krylov basis has "
                "lost its orthogonality: please report the operator."
            )

    @property
    def mean(self) -> float:
        """Mean eigenvalue, ``tr(H) / n`` up to the probes' error."""
        return float(self.weights @ self.nodes)

    @property
    def second_moment(self) -> float:
        """Mean squared eigenvalue, ``||H||_F^2 / n`` up to the probes' error."""
        return float(self.weights @ self.nodes.square())

    def evaluate(self, x: Tensor) -> Tensor:
        """Density at the points ``x``, per unit of eigenvalue.

        Args:
            x: Any shape, in eigenvalue units.

        Returns:
            Same shape, float64.
        """
        return self._kernel(x) @ self.weights

    def standard_error(self, x: Tensor) -> Tensor:
        """Standard error of :meth:`evaluate` over the probes; ``nan`` with a single probe.

        Args:
            x: Any shape, in eigenvalue units.

        Returns:
            Same shape, float64.
        """
        count = self.probe_weights.shape[1]
        curves = self._kernel(x) @ self.probe_weights
        if count < 2:
            return torch.full_like(curves[..., 0], math.nan)
        return curves.std(dim=-1) / math.sqrt(count)

    def _kernel(self, x: Tensor) -> Tensor:
        scaled = (x.double()[..., None] - self.nodes) / self.bandwidth
        return torch.exp(-0.5 * scaled.square()) / (self.bandwidth * math.sqrt(2 * math.pi))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NegativeMass:
    """Share of the eigenvalues below ``-threshold``.

    Attributes:
        fraction: The quadrature's estimate, between 0 and 1.
        bracket: Lower and upper bound, Lanczos resolution and probe error included.
        threshold: Positive, in eigenvalue units; nearer to zero the sign is rounding.
    """

    fraction: float = field(
        metadata=shown(
            "fraction",
            chart=Band("share of negative eigenvalues"),
            doc=(
                "share of eigenvalues below `-negative_threshold`; read it by its bracket, which "
                "is wide where the bulk sits at zero"
            ),
        )
    )
    bracket: tuple[float, float] = field(
        metadata=shown("fraction_lower", "fraction_upper", error_of="fraction", doc="bracket")
    )
    threshold: float = field(
        metadata=shown(
            "threshold",
            doc="a thousandth of the largest magnitude; nearer to zero a sign is rounding",
            unit=PER_SQUARED_PARAMETER,
            group="details",
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ParameterBlock:
    """What was measured of one diagonal block of the Hessian.

    Attributes:
        name: Pattern of parameter names, or the module's name.
        trace: From the probes of the whole trace; None if that was not asked for.
        largest: The block's largest eigenvalues, as many as were asked for and as it has.
    """

    name: str
    trace: Estimate | None = field(
        default=None,
        metadata=shown("trace/{name}", doc="trace of a diagonal block", unit=PER_SQUARED_PARAMETER),
    )
    largest: Eigenvalues = field(
        default_factory=Eigenvalues,
        metadata=shown(
            "eig{}/{name}",
            doc="largest eigenvalues of a diagonal block",
            unit=PER_SQUARED_PARAMETER,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EigenvectorOverlap:
    """How the eigenvectors of the largest eigenvalues lie to those of the report before.

    Attributes:
        cosines: ``(k,)`` between each and its partner, 0 to 1; ``nan`` without one.
        partners: ``(k,)`` number of that partner, from 0; -1 without one.
        subspace: Share of the one span in the other, 0 to 1.
    """

    cosines: Tensor = field(
        metadata=shown(
            "overlap_{i}",
            doc="cosine of the i-th eigenvector with its partner in the report before",
            group="details",
        )
    )
    partners: Tensor
    subspace: float = field(
        metadata=shown(
            "subspace_overlap",
            doc="share of the one span of eigenvectors in the other",
            group="details",
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spectrum:
    """What one Krylov sweep over an operator tells.

    Attributes:
        largest: The largest eigenvalues, descending.
        smallest: The smallest (most negative) eigenvalues, ascending.
        trace: None if not asked for.
        density: None if not asked for.
        negative_mass: Measured together with the density.
        num_hvps: Products spent, over all of the above.
        notes: What was not reached, and why, in sentences.
        dimension: Orthonormal vectors that were multiplied first (by the exact operator, if there
            is one of few digits): the trace's probes, multiplied next, are on their complement. 0
            where it is not so.
        vectors: ``(n, k + k')`` eigenvectors of the largest, then of the smallest, on the
            operator's device; each once, so fewer where both ends meet. None if not asked for.
    """

    largest: Eigenvalues
    smallest: Eigenvalues
    trace: TraceEstimate | None
    density: SpectralDensity | None
    negative_mass: NegativeMass | None
    num_hvps: int
    notes: tuple[Note, ...]
    dimension: int = 0
    vectors: Tensor | None = None
