"""What kind of point the weights are, as figures: over training, and down the way out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_hessian.records import CriticalPointReport, Escape
from lightning_hessian.show.figures.caveat import caveat
from lightning_hessian.show.figures.course import course_figure, without_failures
from lightning_hessian.show.figures.frame import ABOVE_POWER, Frame, place, set_title
from lightning_hessian.show.figures.spectrum import describe
from lightning_hessian.show.figures.style import (
    CURVE,
    FAINT,
    SECOND,
    SMALLEST,
    THIRD,
    new_figure,
)
from lightning_hessian.show.figures.ticks import choose_ticks

Reports = Sequence[CriticalPointReport]
COLOURS = (THIRD, CURVE, SECOND)
NUM_POINTS = 201
COUNTED = 1e-6
"""Half a bracket below which it is a count, and drawn as a point."""
BEYOND = 1.5
"""Depths of the way down that the axis of losses shows above the weights' own."""


def critical_point_history_figure(reports: Reports) -> Figure:
    """Draw what is left of the gradient, its norm, and the index against the step.

    Args:
        reports: In order; failed ones are left out.

    Returns:
        The figure.

    Raises:
        ValueError: If no report holds numbers.
    """
    good = without_failures(reports)
    title = f"{good[-1].verdict} ({describe(good[-1])})"
    frame = Frame(widths=(2.65,) * 3, height=2.4, top=0.5)
    panels = [_panel_of_left, _draw_norm, _draw_index]
    return course_figure(good, panels, frame=frame, title=title, size=9)


def escape_figure(report: CriticalPointReport) -> Figure:
    """Draw the loss down the most negative direction, as it is and as it was foreseen.

    Args:
        report: With an ``escape``.

    Returns:
        The figure.

    Raises:
        ValueError: If the report has none.
    """
    escape = report.escape
    if escape is None:
        raise ValueError(
            "`report` must hold an `escape`, got one without: there is no direction of negative "
            "curvature, or `escape=False`."
        )
    figure = new_figure(layout=None)
    axes = figure.subplots(1, 1)
    draw_escape(axes, escape, report.loss)
    axes.set_xlabel("distance along the most negative direction, in parameter units")
    axes.set_ylabel("loss on the frozen samples")
    axes.grid(color=FAINT, alpha=0.2)
    axes.legend(frameon=False, fontsize=8)
    choose_ticks(axes)
    title = f"Way down from step {report.step}: {describe(report)}"
    place(figure, [axes], Frame(widths=(6.0,), height=3.0), title, 10, caveat([report]))
    return figure


def draw_left(axes: Axes, reports: Reports) -> None:
    """Draw what is left of the gradient within three shares of the weights' length.

    Args:
        axes: The panel.
        reports: With numbers, in order.
    """
    steps = [report.step for report in reports]
    for row, colour in enumerate(COLOURS):
        found = [report.nearness[row : row + 1] for report in reports]
        values = [each[0].gradient_left if each else 0.0 for each in found]
        share = next((each[0].share for each in found if each), None)
        if share is not None:
            label = f"within {100 * share:g} % of |w|"
            axes.plot(steps, values, color=colour, marker=".", label=label)
    axes.set_ylim(-0.03, 1.03)


def _panel_of_left(axes: Axes, reports: Reports) -> None:
    draw_left(axes, reports)
    axes.legend(frameon=False, fontsize=7)
    set_title(axes, "gradient left, to first order", pad=ABOVE_POWER)


def _draw_norm(axes: Axes, reports: Reports) -> None:
    axes.plot(
        [r.step for r in reports], [r.gradient_norm for r in reports], color=CURVE, marker="."
    )
    axes.set_ylim(bottom=0)
    set_title(axes, "norm of the gradient", pad=ABOVE_POWER)


def _draw_index(axes: Axes, reports: Reports) -> None:
    """By the first threshold, its bracket and nothing more: what lies between is not known."""
    counts = [(report.step, report.index) for report in reports if report.index is not None]
    steps = [step for step, _ in counts]
    ends = [count.bracket for _, count in counts]
    middles = [(low + high) / 2 for low, high in ends]
    halves = [(high - low) / 2 for low, high in ends]
    axes.errorbar(steps, middles, yerr=halves, color=SMALLEST, linestyle="none", capsize=4)
    counted = [(s, m) for s, m, half in zip(steps, middles, halves, strict=True) if half < COUNTED]
    if counted:
        axes.plot(*zip(*counted, strict=True), color=SMALLEST, linestyle="none", marker=".")
    axes.set_ylim(-0.03, 1.03)
    set_title(axes, "share of negative eigenvalues, bracket", pad=ABOVE_POWER)


def draw_escape(axes: Axes, escape: Escape, loss: float) -> None:
    """Draw the loss to both sides of the weights, as it is and to fourth order.

    Args:
        axes: The panel.
        escape: What was measured on the way.
        loss: Of the weights.
    """
    distances, losses = escape.distances, escape.losses
    low, high = float(distances[0]), float(distances[-1])
    depth = max(loss - float(losses.nan_to_num(nan=loss).min()), 1e-3 * abs(loss), 1e-12)
    t = torch.linspace(low, high, NUM_POINTS, dtype=torch.float64)
    axes.plot(t, loss + escape.predicted(t), color=SECOND, linestyle="--", label="fourth order")
    axes.plot(distances, losses, color=CURVE, marker=".", label="loss")
    axes.plot([0], [loss], color=SMALLEST, marker="o", linestyle="none", label="weights")
    axes.set_ylim(loss - BEYOND * depth, loss + BEYOND * depth)
