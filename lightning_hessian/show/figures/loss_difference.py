"""The change of the loss by one more sample, against the number of samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_hessian.records import LossDifferenceReport, RequiredSampleSize
from lightning_hessian.show.figures.caveat import caveat
from lightning_hessian.show.figures.derivative_convergence import draw_distances, has_derivatives
from lightning_hessian.show.figures.frame import (
    LETTERS_PER_INCH,
    Frame,
    lines_height,
    place,
    set_title,
    wrapped,
)
from lightning_hessian.show.figures.spectrum import describe
from lightning_hessian.show.figures.style import (
    BAND,
    CURVE,
    FAINT,
    LARGEST,
    SECOND,
    SECOND_BAND,
    THIRD,
    new_figure,
)
from lightning_hessian.show.figures.ticks import choose_ticks

Array = npt.NDArray[np.float64]
ERRORS = 2
FURTHEST = 100
"""The axis ends at so many times ``N``, whatever sample size a threshold needs."""
WIDTH, BESIDE, WIDTH_BESIDE, HEIGHT = 7.2, 0.95, 4.0, 3.45
"""Of the axes and between them, in inches."""
LEGEND = 0.5
"""From the axes down to the legend, past ticks and label."""
KEY = 0.55
"""Of a legend's column, what is no text."""
SMALL, MIDDLE, SIZE = 8, 8.5, 9
"""Of the legend, of the circumstances above, and of the sentences below."""
FEW = 5
FLOOR = 1e-3
"""Ends of bands that a logarithm does not take stand at this share of their value."""


def loss_difference_figure(report: LossDifferenceReport) -> Figure:
    """Draw ``|L_{k+1} - L_k|`` against ``k``: measured, by its laws, and what is needed.

    Bands and bars are two standard errors. Past ``N`` the mean absolute difference is the law's,
    of the losses that the sample sizes needed are told from: held-out ones where there are such.
    A threshold's mark stands at the size from which on the difference is below it, its bar is the
    95 % interval. Beside, where measured, how far gradient and Hessian of ``k`` samples are from
    those of all.

    Args:
        report: With differences.

    Returns:
        The figure.

    Raises:
        ValueError: If the report has no differences.
    """
    if not len(report.differences.sample_sizes):
        raise ValueError(
            "`report` must hold differences at some sample sizes, got none "
            f"(failure: {report.failure}). Measure on at least two samples."
        )
    with_derivatives = has_derivatives(report)
    figure = new_figure(layout=None)
    axes = figure.add_axes((0, 0, 1, 1))
    panels = [axes]
    if with_derivatives:
        panels.append(figure.add_axes((0, 0, 1, 1)))
        draw_distances(panels[1], report)
    if report.spread.range == 0:
        say_no_difference(axes, report)
    else:
        _draw_differences(axes, report)
    axes.set_xlabel("number of samples k")
    axes.set_ylabel("change of the loss by one more sample")
    for each in panels:
        choose_ticks(each)
    _place_texts(figure, panels, report)
    return figure


def _place_texts(figure: Figure, panels: Sequence[Axes], report: LossDifferenceReport) -> None:
    """Titles above, legends and sentences below; the figure is as high as these need it."""
    circumstances = wrapped(describe(report), WIDTH, MIDDLE)
    set_title(panels[0], circumstances, fontsize=MIDDLE, color=FAINT)
    widths = (WIDTH, WIDTH_BESIDE)[: len(panels)]
    legends = max(_add_legend(axes, width) for axes, width in zip(panels, widths, strict=True))
    inches = Frame(widths, HEIGHT, beside=BESIDE).width
    sentences = wrapped("\n".join(f"• {each}" for each in report.sentences), inches - 0.4, SIZE)
    frame = Frame(
        widths,
        HEIGHT,
        bottom=LEGEND + legends + lines_height(sentences, SIZE) + 0.1,
        top=0.1 + lines_height(circumstances, MIDDLE),
        beside=BESIDE,
    )
    title = f"Loss difference |L(k + 1) - L(k)| at step {report.step:,}"
    below = place(figure, panels, frame, title, 12, caveat([report]))
    y = (below + 0.06) / figure.get_figheight()
    figure.supxlabel(sentences, fontsize=SIZE, x=0.2 / inches, y=y, ha="left", va="bottom")


def _add_legend(axes: Axes, width: float) -> float:
    """In as many columns as fit below the axes; returns its height."""
    handles, labels = axes.get_legend_handles_labels()
    if not labels:
        return 0.0
    columns = next((n for n in (3, 2) if _legend_width(labels, n) <= width), 1)
    corner = (0, -LEGEND / HEIGHT)
    axes.legend(
        handles,
        labels,
        loc="upper left",
        bbox_to_anchor=corner,
        borderaxespad=0,
        ncols=columns,
        frameon=False,
        fontsize=SMALL,
    )
    rows = math.ceil(len(labels) / columns)
    # matplotlib leaves half a line between rows, and about one around
    return lines_height("\n" * (rows - 1), SMALL) * 1.3 + 0.15


def _legend_width(labels: Sequence[str], columns: int) -> float:
    """Of columns filled one after the other, each as wide as its longest label."""
    rows = math.ceil(len(labels) / columns)
    longest = [max(map(len, labels[i : i + rows])) for i in range(0, len(labels), rows)]
    return KEY * columns + sum(longest) * SMALL / LETTERS_PER_INCH


def say_no_difference(axes: Axes, report: LossDifferenceReport) -> None:
    """Say what a logarithmic axis has no place for: zeros, and what rounding leaves of them.

    Args:
        axes: The panel.
        report: Whose losses are equal.
    """
    count, loss = f"{report.num_samples:,}", f"{report.loss:.6g}"
    text = f"no difference: all {count} samples\nhave the same loss {loss}"
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center")
    axes.set_xscale("log")
    axes.set_xlim(1, report.num_samples)
    axes.tick_params(left=False, labelleft=False)


def _draw_differences(axes: Axes, report: LossDifferenceReport) -> None:
    # numpy's: of a tensor matplotlib looks at each element
    k, mean = report.differences.sample_sizes.numpy(), report.differences.mean_abs.numpy()
    needed = report.required_sample_sizes
    last = max([report.num_samples, *(size.upper for size in needed)])
    right = min(2 * last, FURTHEST * report.num_samples)
    axes.set_xscale("log")
    axes.set_yscale("log")

    axes.fill_between(
        k,
        report.differences.mean_abs_lower.numpy(),
        report.differences.mean_abs_upper.numpy(),
        color=SECOND_BAND,
        alpha=0.6,
        linewidth=0.8,
        label="its closed-form bounds",
    )
    draw_band(axes, report, label="its ± 2 standard errors")
    asymptote, worst = (
        report.spread.mean_absolute_deviation.value / (k + 1),
        report.spread.range / (k + 1),
    )
    for heights, colour, dashes, width, label in (
        (mean, CURVE, "-", 1.6, "mean absolute difference"),
        (report.differences.rms.numpy(), LARGEST, "-.", 1.2, "root mean square"),
        (worst, FAINT, ":", 1.4, "worst case, range/(k+1)"),
        (asymptote, THIRD, ":", 1.6, "asymptote MAD/(k+1)"),
    ):
        axes.plot(
            k,
            heights,
            color=colour,
            linestyle=dashes,
            linewidth=width,
            # one point alone is no line
            marker="." if len(k) <= FEW else "",
            label=label,
            zorder=3 if heights is mean else 2,
        )
    path = report.differences.path.numpy()
    seen = path > 0
    axes.plot(
        k[seen],
        path[seen],
        linestyle="none",
        marker=".",
        markersize=4,
        color=FAINT,
        alpha=0.6,
        label="along one order",
    )
    _draw_orders(axes, report)
    mark_all(axes, report.num_samples)
    beyond = draw_extrapolation(axes, report, right)
    draw_thresholds(axes, needed, right)
    lowest = min(
        float(report.differences.mean_abs_lower.min()), float(mean.min()), *beyond.tolist()
    )
    axes.set_xlim(0.9, right)
    axes.set_ylim(0.4 * lowest, 2.5 * report.spread.range / 2)
    axes.grid(color=FAINT, alpha=0.2)


def draw_band(axes: Axes, report: LossDifferenceReport, *, label: str) -> None:
    """Draw two standard errors around the mean absolute difference, where they are known.

    Args:
        axes: The panel.
        report: With differences.
        label: In the legend.
    """
    k, mean = report.differences.sample_sizes.numpy(), report.differences.mean_abs.numpy()
    error = ERRORS * report.differences.mean_abs_standard_error.numpy()
    if np.isfinite(error).all():
        low = np.maximum(mean - error, FLOOR * mean)
        axes.fill_between(k, low, mean + error, color=BAND, alpha=0.5, label=label)


def mark_all(axes: Axes, num_samples: int) -> None:
    """Mark where the samples that were measured end.

    Args:
        axes: The panel.
        num_samples: ``N``.
    """
    axes.axvline(num_samples, color=FAINT, linewidth=0.8)
    axes.annotate(
        f"N = {num_samples:,}",
        (num_samples, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-3, -4),
        textcoords="offset points",
        ha="right",
        va="top",
        color=FAINT,
        fontsize=8.5,
    )


def _draw_orders(axes: Axes, report: LossDifferenceReport) -> None:
    if report.differences.num_orders:
        axes.errorbar(
            report.differences.sample_sizes.numpy(),
            report.differences.orders_mean_abs.numpy(),
            yerr=ERRORS * report.differences.orders_standard_error.numpy(),
            linestyle="none",
            marker="s",
            markersize=2,
            capsize=2,
            linewidth=0.8,
            color=SECOND,
            zorder=1.5,  # below the curves
            label=f"mean of {report.differences.num_orders:,} orders, ± 2 errors",
        )


def draw_extrapolation(axes: Axes, report: LossDifferenceReport, right: float) -> Array:
    """Draw the law past ``N``.

    Args:
        axes: The panel.
        report: With differences.
        right: Where the axis ends.

    Returns:
        Its heights.
    """
    further = report.further
    start, end = math.log10(report.num_samples), math.log10(right)
    k = np.logspace(start, end, 50)
    heights: Array = further.mean_absolute_deviation.value / (k + 1)
    if right > 2 * report.num_samples:
        label = "extrapolated, held-out losses" if report.held_out else "extrapolated, MAD/(k+1)"
        axes.plot(k, heights, color=CURVE, linestyle="--", linewidth=1.3, label=label)
    return heights[heights > 0]


def draw_thresholds(axes: Axes, needed: Sequence[RequiredSampleSize], right: float) -> None:
    """Draw thresholds, each with the sample size that it needs.

    Args:
        axes: The panel.
        needed: A size for each.
        right: Where the axis ends.
    """
    for size in needed:
        place = "" if size.size <= right else ", off the axis"
        axes.axhline(size.threshold, color=FAINT, linewidth=0.8, linestyle=(0, (5, 3)))
        axes.errorbar(
            [size.size],
            [size.threshold],
            xerr=[[size.size - size.lower], [size.upper - size.size]],
            color="black",
            marker="o",
            markersize=5,
            markerfacecolor="none" if size.is_extrapolated else "black",
            capsize=3,
            linestyle="none",
            label=f"below {size.threshold:g} from k* = {size.size:,}{place}",
        )
