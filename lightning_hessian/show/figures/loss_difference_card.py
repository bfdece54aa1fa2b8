"""The difference against the number of samples, and over training, at the size of a card."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_hessian.records import LossDifferenceReport, LossSurface, RequiredSampleSize
from lightning_hessian.show.figures.card import FRAME, LEGEND, card
from lightning_hessian.show.figures.course import without_failures
from lightning_hessian.show.figures.loss_difference import (
    FURTHEST,
    draw_band,
    draw_extrapolation,
    draw_thresholds,
    mark_all,
    say_no_difference,
)
from lightning_hessian.show.figures.loss_difference_history import (
    draw_difference,
    draw_sizes,
)
from lightning_hessian.show.figures.neighbourhood import draw_variances
from lightning_hessian.show.figures.style import CURVE
from lightning_hessian.show.figures.surface import draw_contours

Reports = Sequence[LossDifferenceReport]
RISE, FALL = 10, 1e-3
"""How far the axis goes above the first curve and below it: losses come together in training."""
MIDDLE = 0.1
"""Of the axis of sizes: numbers beyond it stand left of their mark."""


def difference_card(reports: Reports) -> Figure:
    """Draw the latest mean absolute difference on axes that stay as they are over a training.

    The band is two standard errors; a threshold's mark stands at the size from which on the
    difference is below it.

    Args:
        reports: In order; the latest has numbers.

    Returns:
        The figure.
    """
    report = reports[-1]
    title = f"Change of the loss by one more sample, step {report.step:,}"
    draw = partial(_draw, report=report, reports=without_failures(reports))
    return card(draw, [report], title=title, x_label="number of samples k")


def difference_course_card(reports: Reports) -> Figure:
    """Draw the samples that thresholds need over training, or without any what the last one does.

    Args:
        reports: In order; failed ones are left out.

    Returns:
        The figure.

    Raises:
        ValueError: If no report holds numbers.
    """
    good = without_failures(reports)
    asked = any(report.thresholds for report in good)
    what = "Samples needed" if asked else "Change by the last sample"
    draw = partial(_draw_course, reports=good, asked=asked)
    return card(draw, good, title=f"{what} until step {good[-1].step:,}", x_label="step")


def neighbourhood_cards(report: LossDifferenceReport) -> dict[str, Callable[[], Figure]]:
    """The variance around the weights against ``sigma``, a card for each space perturbed in.

    Args:
        report: With or without ``neighbourhood``.

    Returns:
        Last part of the tag to what makes the figure.
    """
    cards: dict[str, Callable[[], Figure]] = {}
    for space in dict.fromkeys(variance.dimensions for variance in report.neighbourhood):
        inside = "" if space is None else f"_in_{space}"
        where = "" if space is None else f" in {space:,} dimensions"
        cards[f"neighbourhood{inside}"] = partial(
            card,
            partial(
                draw_variances,
                variances=[v for v in report.neighbourhood if v.dimensions == space],
            ),
            [report],
            title=f"Variance around the weights{where}, step {report.step:,}",
            x_label="sigma of each coordinate",
        )
    return cards


def surface_card(report: LossDifferenceReport, surface: LossSurface) -> Figure:
    """Draw the mean loss on a plane through the weights.

    Args:
        report: Of the weights.
        surface: What was measured around them.

    Returns:
        The figure.
    """
    return card(
        partial(draw_contours, surface=surface, values=surface.loss, is_signed=False),
        [report],
        title=f"Loss around the weights at step {report.step:,}, v against u",
        x_label="along u",
        frame=replace(FRAME, widths=(2.65,), right=1.0),
    )


def _draw(axes: Axes, *, report: LossDifferenceReport, reports: Reports) -> None:
    if report.spread.range == 0:
        say_no_difference(axes, report)
        return
    right = (FURTHEST if report.thresholds else 2) * report.num_samples
    axes.set_xscale("log")
    axes.set_yscale("log")
    k, mean = report.differences.sample_sizes.numpy(), report.differences.mean_abs.numpy()
    draw_band(axes, report, label="_")
    axes.plot(k, mean, color=CURVE, linewidth=1.4, label="mean, ± 2 errors")
    mark_all(axes, report.num_samples)
    draw_extrapolation(axes, report, right)
    _draw_sizes(axes, report.required_sample_sizes, right)
    axes.set_xlim(0.9, right)
    axes.set_ylim(*_heights(reports))


def _draw_sizes(axes: Axes, needed: Sequence[RequiredSampleSize], right: float) -> None:
    """Each with its number beside it: in a legend they would hide the curve."""
    draw_thresholds(axes, needed, right)
    for size, bar in zip(needed, axes.containers, strict=True):
        bar.set_label("_")
        is_beyond = size.size > right
        axes.annotate(
            f"{size.size:,} →" if is_beyond else f"k* = {size.size:,}",
            (right if is_beyond else size.size, size.threshold),
            xytext=(-3, 3),
            textcoords="offset points",
            fontsize=LEGEND,
            ha="right" if size.size > MIDDLE * right else "left",
            va="bottom",
        )


def _heights(reports: Reports) -> tuple[float, float]:
    """Powers of ten around the first curve, and around later ones that leave these."""
    curves = [report.differences.mean_abs for report in reports if report.spread.range > 0]
    values = [FALL * float(curves[0].min()), RISE * float(curves[0].max())]
    values += [end for curve in curves for end in (float(curve.min()), float(curve.max()))]
    values += [threshold for report in reports for threshold in report.thresholds]
    return _decades([value for value in values if 0 < value < math.inf])


def _draw_course(axes: Axes, *, reports: Reports, asked: bool) -> None:
    (draw_sizes if asked else draw_difference)(axes, reports)
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axes.lines])
    if (values > 0).all():
        axes.set_yscale("log")
        axes.set_ylim(*_decades(values.tolist()))


def _decades(values: Sequence[float]) -> tuple[float, float]:
    """Powers of ten around positive values."""
    return 10.0 ** math.floor(math.log10(min(values))), 10.0 ** math.ceil(math.log10(max(values)))
