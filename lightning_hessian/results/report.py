"""The record of one measurement of a training loss's Hessian."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_hessian.results.estimates import SpectralDensity
from lightning_hessian.results.primitives import JsonValue, from_primitives, to_primitives

Mode = Literal["eval", "train"]
"""``eval``: dropout off, running statistics. ``train``: fixed dropout masks, batch statistics."""

Weights = Literal["current", "averaged"]
"""``current``: those that the optimiser moves. ``averaged``: of a weight-averaging callback."""

HvpMethod = Literal["exact", "finite_difference"]
"""``exact``: double backward. ``finite_difference``: central differences of gradients."""


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
        loss_name: Which loss, where the module was told to have several; None for the step's own.
        weights: ``current``, those that training moves, or ``averaged``, of a weight averaging.
        hvp: ``exact`` products, or differences of gradients.
        hvp_error: Estimated norm of what the products are off by, in eigenvalue units; part of
            every bound. Zero where they are exact.
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
    loss_name: str | None = None
    weights: Weights = "current"
    hvp: HvpMethod = "exact"
    hvp_error: float = 0.0
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
        return to_primitives(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SpectrumReport:
        """The report that :meth:`to_dict` described, or a JSON file beside a checkpoint.

        Args:
            values: By field name; fields of other versions are left out.

        Returns:
            A report of equal numbers.
        """
        return from_primitives(cls, values)
