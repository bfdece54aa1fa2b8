"""How the loss differences went over training, as a figure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_hessian.records import Estimate, LossDifferenceReport, NeighbourhoodVariance
from lightning_hessian.show.figures.course import course_figure, without_failures
from lightning_hessian.show.figures.frame import ABOVE_POWER, Frame, set_title
from lightning_hessian.show.figures.spectrum import describe
from lightning_hessian.show.figures.style import (
    BAND,
    CURVE,
    FAINT,
    FOURTH,
    SECOND,
    THIRD,
)

Reports = Sequence[LossDifferenceReport]
ERRORS = 2
COLOURS = (CURVE, SECOND, THIRD, FOURTH)
MANY_TIMES = 10
"""Positive values that differ by more than this are drawn by their logarithm."""


def loss_difference_history_figure(reports: Reports) -> Figure:
    """Draw difference, spread, sizes needed, ``V(sigma)`` and losses against the step.

    Bands and bars are two standard errors, those of a size the 95 % interval. Sizes and
    ``V(sigma)`` have a panel where they were asked for.

    Args:
        reports: In order; failed ones are left out.

    Returns:
        The figure.

    Raises:
        ValueError: If no report holds numbers.
    """
    good = without_failures(reports)
    panels: list[Callable[[Axes, Reports], None]] = [_panel_of_difference, _draw_spread]
    if any(report.thresholds for report in good):
        panels.append(_panel_of_sizes)
    if any(report.neighbourhood for report in good):
        panels.append(_draw_neighbourhood)
    panels.append(_draw_losses)
    columns = math.ceil(len(panels) / 2) if len(panels) > 3 else 3
    frame = Frame(widths=(2.7,) * columns, height=2.3, top=0.5)
    title = f"Loss difference: {describe(good[-1])}"
    return course_figure(good, [_scaled(draw) for draw in panels], frame=frame, title=title)


def draw_difference(axes: Axes, reports: Reports) -> None:
    """Draw the mean absolute difference that the last sample makes, with its band.

    Args:
        axes: The panel.
        reports: With numbers, in order.
    """
    last = [(report.step, report.differences.last_mean_abs) for report in reports]
    measured = [(step, estimate) for step, estimate in last if estimate is not None]
    steps = [step for step, _ in measured]
    values = np.array([estimate.value for _, estimate in measured])
    errors = ERRORS * np.array([estimate.standard_error for _, estimate in measured])
    axes.plot(steps, values, color=CURVE, marker=".")
    axes.fill_between(steps, values - errors, values + errors, color=BAND, alpha=0.5)


def _panel_of_difference(axes: Axes, reports: Reports) -> None:
    draw_difference(axes, reports)
    set_title(axes, "mean |difference| by the last sample", pad=ABOVE_POWER)


def _draw_spread(axes: Axes, reports: Reports) -> None:
    roots = [_pair(report.spread.deviation) for report in reports]
    means = [_pair(report.spread.mean_absolute_deviation) for report in reports]
    for pairs, colour, label in ((roots, CURVE, "S"), (means, SECOND, "MAD")):
        _draw_bars(axes, reports, pairs, colour, label)
    set_title(axes, "spread of the losses", pad=ABOVE_POWER)
    axes.legend(frameon=False, fontsize=8)


def draw_sizes(axes: Axes, reports: Reports) -> None:
    """Draw the sample sizes that the thresholds need, with their intervals.

    Args:
        axes: The panel.
        reports: With numbers, in order.
    """
    thresholds = dict.fromkeys(tau for report in reports for tau in report.thresholds)
    for index, threshold in enumerate(thresholds):
        asked = [report for report in reports if threshold in report.thresholds]
        needed = [report.required_sample_size(threshold) for report in asked]
        axes.errorbar(
            [report.step for report in asked],
            [size.size for size in needed],
            yerr=[
                [size.size - size.lower for size in needed],
                [size.upper - size.size for size in needed],
            ],
            color=COLOURS[index % len(COLOURS)],
            marker=".",
            capsize=2,
            linewidth=1.2,
            label=f"below {threshold:g}",
        )
    samples = [report.num_samples for report in reports]
    steps = [report.step for report in reports]
    axes.plot(steps, samples, color=FAINT, linestyle="--", linewidth=0.8, label="N")


def _panel_of_sizes(axes: Axes, reports: Reports) -> None:
    draw_sizes(axes, reports)
    set_title(axes, "samples needed", pad=ABOVE_POWER)
    axes.legend(frameon=False, fontsize=8)


def _draw_neighbourhood(axes: Axes, reports: Reports) -> None:
    balls = dict.fromkeys((v.sigma, v.dimensions) for r in reports for v in r.neighbourhood)
    for index, (sigma, dimensions) in enumerate(balls):
        colour = COLOURS[index % len(COLOURS)]
        found = [
            (report, variance)
            for report in reports
            for variance in report.neighbourhood
            if (variance.sigma, variance.dimensions) == (sigma, dimensions)
        ]
        which = [report for report, _ in found]
        pairs = [(variance.variance, variance.standard_error) for _, variance in found]
        within = "" if dimensions is None else f" in {dimensions} dimensions"
        _draw_bars(axes, which, pairs, colour, f"sigma = {sigma:g}{within}")
        _draw_parts(axes, found, colour, is_first=index == 0)
    set_title(axes, "V(sigma), variance around the weights", pad=ABOVE_POWER)
    axes.legend(frameon=False, fontsize=8)


def _draw_parts(
    axes: Axes,
    found: Sequence[tuple[LossDifferenceReport, NeighbourhoodVariance]],
    colour: str,
    *,
    is_first: bool,
) -> None:
    steps = [report.step for report, _ in found]
    for name, dashes in (("value", "-"), ("linear", "--"), ("quadratic", ":")):
        parts = [getattr(variance, f"{name}_part") for _, variance in found]
        label = f"{name} part" if is_first else None
        axes.plot(steps, parts, color=colour, linestyle=dashes, linewidth=0.8, label=label)


def _draw_losses(axes: Axes, reports: Reports) -> None:
    trained = [(report.loss, report.loss_standard_error) for report in reports]
    _draw_bars(axes, reports, trained, CURVE, "training samples")
    having = [report for report in reports if report.held_out is not None]
    held_out = [
        (
            report.held_out.loss,
            math.sqrt(report.held_out.spread.variance.value / report.held_out.num_samples),
        )
        for report in reports
        if report.held_out is not None
    ]
    if having:
        _draw_bars(axes, having, held_out, SECOND, "held-out samples")
    set_title(axes, "mean loss of the samples", pad=ABOVE_POWER)
    axes.legend(frameon=False, fontsize=8)


def _pair(estimate: Estimate) -> tuple[float, float]:
    return estimate.value, estimate.standard_error


def _draw_bars(
    axes: Axes,
    reports: Reports,
    pairs: Sequence[tuple[float, float]],
    colour: str,
    label: str,
) -> None:
    axes.errorbar(
        [report.step for report in reports],
        [value for value, _ in pairs],
        yerr=[0.0 if math.isnan(error) else ERRORS * error for _, error in pairs],
        color=colour,
        marker=".",
        capsize=2,
        linewidth=1.2,
        label=label,
    )


def _scaled(draw: Callable[[Axes, Reports], None]) -> Callable[[Axes, Reports], None]:
    def drawn(axes: Axes, reports: Reports) -> None:
        draw(axes, reports)
        _choose_scale(axes)

    return drawn


def _choose_scale(axes: Axes) -> None:
    """By the curves alone: an error bar that reaches below zero would forbid a logarithm."""
    curves = [
        np.asarray(line.get_ydata(), dtype=float)
        for line in axes.lines
        if line.get_linestyle() != "None"  # which the ends of error bars have
    ]
    values = np.concatenate([*curves, np.empty(0)])
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() > MANY_TIMES * values.min():
        axes.set_yscale("log")
        axes.set_ylim(0.5 * values.min(), 2 * values.max())
