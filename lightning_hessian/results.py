"""Frozen records of what was measured: values with their errors, plain floats and CPU tensors."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

Mode = Literal["eval", "train"]
"""``eval``: dropout off, running statistics. ``train``: fixed dropout masks, batch statistics."""

JsonValue = str | int | float | bool | None | list[Any] | dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Eigenvalues:
    """Approximate eigenvalues, each with a bound on its distance to a true one.

    Attributes:
        values: ``(k,)`` float64, in the order asked for.
        residual_bounds: ``(k,)``; an eigenvalue of the operator lies within this distance.
        converged: ``(k,)`` bool, whether the bound meets the tolerance asked for.
    """

    values: Tensor
    residual_bounds: Tensor
    converged: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TraceEstimate:
    """Stochastic estimate of a trace.

    Attributes:
        value: The estimate, in units of the operator's diagonal.
        standard_error: Of ``value``, from the probes' scatter; rounding when the trace is exact.
        interval: Two-sided 95 % confidence interval by Student's t.
        num_probes: Fresh probes drawn, each one product.
        converged: Whether ``standard_error`` meets the tolerance asked for.
    """

    value: float
    standard_error: float
    interval: tuple[float, float]
    num_probes: int
    converged: bool


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

    fraction: float
    bracket: tuple[float, float]
    threshold: float


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
    """

    largest: Eigenvalues
    smallest: Eigenvalues
    trace: TraceEstimate | None
    density: SpectralDensity | None
    negative_mass: NegativeMass | None
    num_hvps: int
    notes: tuple[str, ...]


def _no_numbers() -> Tensor:
    return torch.empty(0, dtype=torch.float64)


def _no_flags() -> Tensor:
    return torch.empty(0, dtype=torch.bool)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpectrumReport:
    """One measurement of the training loss's Hessian: the numbers, their errors, and of what.

    Eigenvalues are in units of loss per squared parameter unit. A quantity that was not asked for,
    or of which ``failure`` tells why it is missing, is ``nan``, empty or None.

    Attributes:
        eigenvalues: ``(k,)`` float64, largest first (algebraically).
        residual_bounds: ``(k,)`` an eigenvalue lies within this distance.
        converged: ``(k,)`` bool, whether the bound meets ``rtol``.
        smallest_eigenvalues: ``(k',)`` float64, most negative first.
        smallest_residual_bounds: ``(k',)``.
        smallest_converged: ``(k',)`` bool.
        trace: Sum of all eigenvalues.
        trace_standard_error: Of the trace.
        trace_interval: 95 % confidence interval of the trace.
        density: Distribution of the eigenvalues, or None.
        negative_fraction: Share of eigenvalues below ``-negative_threshold``.
        negative_fraction_bracket: Its lower and upper bound.
        negative_threshold: In eigenvalue units.
        loss: Mean training loss on the frozen samples.
        gradient_norm: Euclidean norm of its gradient.
        num_parameters: Number of selected parameters, ``n``.
        num_samples: Frozen training samples that the loss averages.
        data: Where the samples come from, in words.
        mode: ``eval`` or ``train``.
        num_hvps: Hessian-vector products spent.
        gradient_seconds: One gradient over the frozen samples: the unit of cost.
        seconds: Wall time of the whole measurement.
        epoch: ``trainer.current_epoch``.
        global_step: ``trainer.global_step``, the number of optimiser steps behind the weights.
        ckpt_path: The checkpoint that holds these weights, if one is known.
        unused_parameters: Names of selected parameters that the loss does not depend on.
        notes: What was not reached and what to beware of, in sentences.
        failure: None, or why there are no numbers.
    """

    eigenvalues: Tensor = field(default_factory=_no_numbers)
    residual_bounds: Tensor = field(default_factory=_no_numbers)
    converged: Tensor = field(default_factory=_no_flags)
    smallest_eigenvalues: Tensor = field(default_factory=_no_numbers)
    smallest_residual_bounds: Tensor = field(default_factory=_no_numbers)
    smallest_converged: Tensor = field(default_factory=_no_flags)
    trace: float = math.nan
    trace_standard_error: float = math.nan
    trace_interval: tuple[float, float] = (math.nan, math.nan)
    density: SpectralDensity | None = None
    negative_fraction: float = math.nan
    negative_fraction_bracket: tuple[float, float] = (math.nan, math.nan)
    negative_threshold: float = math.nan
    loss: float = math.nan
    gradient_norm: float = math.nan
    num_parameters: int = 0
    num_samples: int = 0
    data: str = ""
    mode: Mode = "eval"
    num_hvps: int = 0
    gradient_seconds: float = math.nan
    seconds: float = math.nan
    epoch: int = 0
    global_step: int = 0
    ckpt_path: str | None = None
    unused_parameters: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    failure: str | None = None

    def to_dict(self) -> dict[str, JsonValue]:
        """The report in primitives, fit for JSON and for a checkpoint's callback state.

        Returns:
            Only ``str``, ``int``, ``float``, ``bool``, ``None``, ``list`` and ``dict``.
        """
        return {f.name: _primitive(getattr(self, f.name)) for f in dataclasses.fields(self)}


def _primitive(value: object) -> JsonValue:
    if isinstance(value, Tensor):
        listed: list[Any] = value.tolist()
        return listed
    if isinstance(value, tuple):
        return [_primitive(item) for item in value]
    if isinstance(value, SpectralDensity):
        return {f.name: _primitive(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"a report holds a {type(value).__name__}, which has no primitive form.")
