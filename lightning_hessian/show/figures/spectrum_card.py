"""The spectrum of one report, and the eigenvalues over training, at the size of a card."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from lightning_hessian.records import SpectralDensity, SpectrumReport
from lightning_hessian.show.figures.card import LEGEND, card
from lightning_hessian.show.figures.course import without_failures
from lightning_hessian.show.figures.eigenvalue_axis import (
    AnyReport,
    EigenvalueAxis,
    eigenvalue_axis,
)
from lightning_hessian.show.figures.style import BAND, CURVE, FAINT, LARGEST, SECOND, SMALLEST

BULK, COURSE = 1e-2, 1e-1
"""Scales below which the axis of a spectrum is linear, and that of a course."""
BELOW_BULK, BELOW_COURSE = 10, 1
"""Scales that they reach below zero."""
NUM_POINTS = 1200
NEAR = torch.linspace(-4, 4, 17, dtype=torch.float64)
"""Where a kernel is looked at, in its widths: on a logarithm it may be narrower than a point."""
LOWEST, HIGHEST = 0.3, 2.0
"""Of the axis of shares, in shares of one eigenvalue and of all."""


def spectrum_card(reports: Sequence[AnyReport]) -> Figure:
    """Draw the latest density on axes that stay as they are over a training.

    The height is the share of the eigenvalues within a kernel's width, from one to all of them;
    triangles stand at the eigenvalues found, hollow where not converged. The band is two standard
    errors over the probes.

    Args:
        reports: In order; the latest has a density.

    Returns:
        The figure.

    Raises:
        ValueError: If the latest report has no density.
    """
    report = reports[-1]
    if report.density is None:
        raise ValueError(
            "`reports` must end in one with a density, got None. Measure with `density=True`."
        )
    axis = eigenvalue_axis(reports, below=BELOW_BULK)
    ends = [float(end.values[0]) for end in (report.smallest, report.largest) if len(end.values)]
    reach = f", {ends[0]:.2g} to {ends[-1]:.3g}" if len(ends) > 1 else ""
    title = f"Share of eigenvalues at step {report.step:,}{reach}"
    draw = partial(_draw_spectrum, report=report, density=report.density, axis=axis)
    return card(draw, [report], title=title, x_label="eigenvalue")


def eigenvalue_card(reports: Sequence[SpectrumReport]) -> Figure:
    """Draw the largest eigenvalue with its interval, the others found and the optimiser's edge.

    Args:
        reports: In order; failed ones are left out.

    Returns:
        The figure.

    Raises:
        ValueError: If no report holds numbers.
    """
    good = without_failures(reports)
    largest = good[-1].largest.values[:1].tolist()
    reach = f", the largest {largest[0]:.3g}" if largest else ""
    title = f"Eigenvalues until step {good[-1].step:,}{reach}"
    return card(partial(_draw_course, reports=good), good, title=title, x_label="step")


def _draw_spectrum(
    axes: Axes, *, report: AnyReport, density: SpectralDensity, axis: EigenvalueAxis
) -> None:
    axis.apply(axes, "x", linear=BULK)
    axes.set_yscale("log")
    x = _places(density, axis)
    one = 1 / max(report.num_parameters, 1)
    floor = LOWEST * one
    kernel = density.bandwidth * math.sqrt(2 * math.pi)
    y = density.evaluate(x) * kernel
    error = 2 * density.standard_error(x) * kernel
    if bool(error.isfinite().all()):
        low, high = ((y + sign * error).clamp_min(floor).numpy() for sign in (-1, 1))
        axes.fill_between(x.numpy(), low, high, color=BAND, alpha=0.6, linewidth=0)
    axes.plot(x.numpy(), y.clamp_min(floor).numpy(), color=CURVE, linewidth=1.2)
    axes.axhline(one, color=FAINT, linewidth=0.8, linestyle=":")
    name = axes.text(axis.high, one, "one eigenvalue ", fontsize=LEGEND, color=FAINT)
    name.set(ha="right", va="bottom")
    for end, colour in ((report.largest, LARGEST), (report.smallest, SMALLEST)):
        for chosen, face in ((end.converged, colour), (~end.converged, "none")):
            places = end.values[chosen].numpy()
            heights = [1.6 * floor] * len(places)
            axes.plot(places, heights, "^", markersize=5, color=colour, markerfacecolor=face)
    axes.set_ylim(floor, HIGHEST)


def _places(density: SpectralDensity, axis: EigenvalueAxis) -> Tensor:
    """Even on the axis, and some at each node, which an even grid may pass by."""
    linear = BULK * axis.scale
    low, high = math.asinh(axis.low / linear), math.asinh(axis.high / linear)
    even = torch.linspace(low, high, NUM_POINTS, dtype=torch.float64).sinh() * linear
    near = density.nodes[:, None] + NEAR * density.bandwidth
    places: Tensor = torch.cat([even, near.flatten()]).clamp(axis.low, axis.high).sort().values
    return places


def _draw_course(axes: Axes, *, reports: Sequence[SpectrumReport]) -> None:
    axis = eigenvalue_axis(reports, below=BELOW_COURSE)
    axis.apply(axes, "y", linear=COURSE)
    steps = [report.step for report in reports]
    most = max(len(report.largest.values) for report in reports)
    for place in range(1, most):
        values = [_at(report.largest.values, place) for report in reports]
        axes.plot(steps, values, color=LARGEST, alpha=0.3, linewidth=0.8)
    _draw_interval(axes, reports)
    smallest = [_at(report.smallest.values, 0) for report in reports]
    if any(map(math.isfinite, smallest)):
        axes.plot(steps, smallest, color=SMALLEST, marker=".", markersize=4, label="smallest")
    edges = [math.nan if r.edge is None else r.edge.largest_eigenvalue for r in reports]
    known = [edge for edge in edges if math.isfinite(edge)]
    if known:
        label = "edge" if min(known) < axis.high else f"edge at {known[-1]:.3g}"
        axes.plot(steps, edges, color=SECOND, linestyle="--", linewidth=1, label=label)
    axes.axhline(0, color=FAINT, linewidth=0.8)


def _draw_interval(axes: Axes, reports: Sequence[SpectrumReport]) -> None:
    """The largest eigenvalue with what is known of it, where anything is."""
    known = [report for report in reports if len(report.largest.values)]
    steps = [report.step for report in known]
    values = [float(report.largest.values[0]) for report in known]
    spans = [r.largest_interval or (v, v) for r, v in zip(known, values, strict=True)]
    errors = [
        [max(0.0, value - low) for value, (low, _) in zip(values, spans, strict=True)],
        [max(0.0, high - value) for value, (_, high) in zip(values, spans, strict=True)],
    ]
    axes.errorbar(
        steps,
        values,
        yerr=errors,
        color=LARGEST,
        marker=".",
        markersize=4,
        capsize=2,
        linewidth=1.2,
        label="largest",
    )


def _at(values: Tensor, place: int) -> float:
    return float(values[place]) if place < len(values) else math.nan
