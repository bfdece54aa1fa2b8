"""How the measured numbers went over training, as a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_hessian.records import Report, SpectrumReport, TraceEstimate
from lightning_hessian.show.figures.caveat import caveat
from lightning_hessian.show.figures.frame import ABOVE_POWER, Frame, place, set_title
from lightning_hessian.show.figures.spectrum import describe
from lightning_hessian.show.figures.style import (
    BAND,
    CURVE,
    FAINT,
    LARGEST,
    SECOND,
    SMALLEST,
    new_figure,
)
from lightning_hessian.show.figures.ticks import choose_ticks

AnyReport = TypeVar("AnyReport", bound=Report)
FRAME = Frame(widths=(2.65, 2.65, 2.65), height=2.4, top=0.5)
UNKNOWN = TraceEstimate(
    value=math.nan, standard_error=math.nan, interval=(math.nan, math.nan), num_probes=0
)


def history_figure(reports: Sequence[SpectrumReport]) -> Figure:
    """Draw eigenvalues, trace and loss against the step, with their error bars.

    Args:
        reports: In order; failed ones are left out.

    Returns:
        The figure.

    Raises:
        ValueError: If no report holds numbers.
    """
    good = without_failures(reports)
    figure = new_figure(layout=None)
    eigenvalues, trace, loss = figure.subplots(1, 3)
    _draw_eigenvalues(eigenvalues, good)
    _draw_trace(trace, good)
    loss.plot([r.step for r in good], [r.loss for r in good], color=CURVE, marker=".")
    set_title(loss, "loss on the frozen samples", pad=ABOVE_POWER)
    for axes in (eigenvalues, trace, loss):
        axes.set_xlabel("step")
        axes.grid(color=FAINT, alpha=0.2)
        choose_ticks(axes)
    title = f"Hessian of the training loss: {describe(good[-1])}"
    place(figure, [eigenvalues, trace, loss], FRAME, title, 10, caveat(good))
    return figure


def without_failures(reports: Sequence[AnyReport]) -> list[AnyReport]:
    """Those that hold numbers.

    Args:
        reports: Of any kind, in order.

    Returns:
        At least one.

    Raises:
        ValueError: If no report holds numbers.
    """
    good = [report for report in reports if report.failure is None]
    if not good:
        given = (
            f"{len(reports)} failed ones, the last by: {reports[-1].failure}"
            if reports
            else "an empty list. Fit first"
        )
        raise ValueError(f"`reports` must hold at least one without failure, got {given}.")
    return good


def _draw_eigenvalues(axes: Axes, reports: Sequence[SpectrumReport]) -> None:
    steps = [r.step for r in reports]
    largest = [r.largest for r in reports]
    smallest = [r.smallest for r in reports]
    for ends, colour in ((largest, LARGEST), (smallest, SMALLEST)):
        for index in range(min(len(end.values) for end in ends)):
            axes.errorbar(
                steps,
                [float(end.values[index]) for end in ends],
                yerr=[float(end.residual_bounds[index]) for end in ends],
                color=colour,
                alpha=max(0.3, 1 - 0.15 * index),
                marker=".",
                capsize=2,
                linewidth=1.2,
            )
    axes.axhline(0, color=FAINT, linewidth=0.8)
    edges = [math.nan if r.edge is None else r.edge.largest_eigenvalue for r in reports]
    if any(map(math.isfinite, edges)):
        axes.plot(steps, edges, color=SECOND, linestyle="--", linewidth=1, label="optimiser's edge")
        axes.legend(frameon=False, fontsize=7)
    set_title(axes, "largest and smallest eigenvalues", pad=ABOVE_POWER)


def _draw_trace(axes: Axes, reports: Sequence[SpectrumReport]) -> None:
    steps = [r.step for r in reports]
    traces = [UNKNOWN if r.trace is None else r.trace for r in reports]
    axes.plot(steps, [trace.value for trace in traces], color=CURVE, marker=".")
    axes.fill_between(
        steps,
        [trace.interval[0] for trace in traces],
        [trace.interval[1] for trace in traces],
        color=BAND,
        alpha=0.5,
    )
    set_title(axes, "trace, 95 % interval", pad=ABOVE_POWER)
