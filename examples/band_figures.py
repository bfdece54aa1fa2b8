"""The losses of many networks by their width, and where some of them end, in one figure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from examples.band_claims import BAD, Interval, bad_share, bootstrap, correlation, variance
from examples.band_runs import Band
from lightning_hessian.records.critical_point import NEAR
from lightning_hessian.show.figures.style import (
    BAND,
    CURVE,
    FAINT,
    LARGEST,
    SECOND,
    THIRD,
    new_figure,
)

COLOURS = {"relative_1e-6": SECOND, "absolute_1e-3": LARGEST, "relative_1e-3": CURVE}
"""Of the thresholds, from the lowest on."""
NAMES = {"train": "training", "test": "test"}
STYLES = ("-", "--", ":")
"""Of the lengths of training, in the order they were asked for."""


def band_figure(families: Sequence[Sequence[Band]]) -> Figure:
    """Draw widths of one or more lengths of training; the upper row is of the first length.

    Above: each network's losses; the variance; the share of bad runs. Below: the correlation of
    training and test loss; the index; what is left of the gradient within 1 % of the weights.
    """
    figure = new_figure(width=12.6, height=7.4)
    upper, lower = figure.subplots(2, 3)
    bands = families[0]
    _draw_losses(upper[0], bands)
    _draw_variances(upper[1], bands)
    shares = [bad_share(band.train) for band in bands]
    _draw_intervals(upper[2], bands, shares, CURVE, "training loss")
    upper[2].set_title(f"share of bad runs (above {BAD:g} times the median)", fontsize=9.5)
    upper[2].set_ylim(bottom=0)
    found = [bootstrap(band.pairs, correlation) for band in bands]
    _draw_intervals(lower[0], bands, found, CURVE, "")
    lower[0].set_title("correlation of training and test loss", fontsize=9.5)
    for style, each in zip(STYLES, families, strict=False):
        _draw_index(lower[1], each, style)
        _draw_nearness(lower[2], each, style)
    lower[2].axhline(NEAR, color=THIRD, linewidth=1, linestyle="-.", label="near one: below")
    lower[1].set_title("index: share of negative eigenvalues", fontsize=9.5)
    lower[1].set_yscale("symlog", linthresh=1e-4)
    lower[1].set_ylim(bottom=0)
    lower[1].set_xlim(bands[0].width / 1.2, 6 * bands[-1].width)  # room for the legend
    lower[2].set_title("gradient left within 1 % of the weights, $r(1\\,\\%)$", fontsize=9.5)
    lower[2].set_ylim(0, 1)
    for axes in (*upper, *lower):
        _finish(axes, bands)
    figure.suptitle(
        f"{len(bands[0].train)} networks a width, {bands[0].epochs} epochs; bars: 95 %", fontsize=11
    )
    return figure


def _draw_losses(axes: Axes, bands: Sequence[Band]) -> None:
    """Each network a dot, beside its width by a random distance."""
    generator = np.random.default_rng(0)
    for part, colour, shift in (("train", CURVE, 0.93), ("test", SECOND, 1.07)):
        for band in bands:
            losses = getattr(band, part)
            places = band.width * shift * np.exp(generator.uniform(-0.05, 0.05, len(losses)))
            axes.plot(
                places,
                losses,
                ".",
                color=colour,
                markersize=3,
                alpha=0.5,
                label=f"{NAMES[part]} loss" if band is bands[0] else None,
            )
    axes.set_yscale("log")
    axes.set_title("loss at the end", fontsize=9.5)


def _draw_variances(axes: Axes, bands: Sequence[Band]) -> None:
    for part, colour in (("train", CURVE), ("test", SECOND)):
        found = [bootstrap(getattr(band, part), variance) for band in bands]
        _draw_intervals(axes, bands, found, colour, f"{NAMES[part]} loss")
    axes.set_yscale("log")
    axes.set_title("variance over networks", fontsize=9.5)


def _draw_intervals(
    axes: Axes, bands: Sequence[Band], found: Sequence[Interval], colour: str, label: str
) -> None:
    values = [each.value for each in found]
    # of a skewed statistic the value may lie outside of its own percentiles
    errors = [
        [max(each.value - each.low, 0) for each in found],
        [max(each.high - each.value, 0) for each in found],
    ]
    widths = [band.width for band in bands]
    axes.errorbar(
        widths, values, errors, fmt="o-", color=colour, markersize=4, capsize=3, label=label or None
    )


def _draw_index(axes: Axes, bands: Sequence[Band], style: str) -> None:
    """Means of counted ones: brackets of few products say too little to be drawn."""
    counted = [band for band in bands if band.points and band.points[0].is_counted]
    for name, colour in COLOURS.items():
        if counted:
            means = [np.mean([each.index[name][0] for each in band.points]) for band in counted]
            axes.plot(
                [band.width for band in counted],
                means,
                f"o{style}",
                color=colour,
                markersize=4,
                label=f"{name.replace('_', ' ')}, {counted[0].epochs} epochs",
            )


def _draw_nearness(axes: Axes, bands: Sequence[Band], style: str) -> None:
    measured = [band for band in bands if band.points]
    for band in measured:
        values = [each.gradient_left for each in band.points]
        axes.plot([band.width] * len(values), values, "o", color=BAND, markersize=4)
    if measured:
        axes.plot(
            [band.width for band in measured],
            [np.mean([each.gradient_left for each in band.points]) for band in measured],
            style,
            color=CURVE,
            label=f"{measured[0].epochs} epochs",
        )


def _finish(axes: Axes, bands: Sequence[Band]) -> None:
    widths = [band.width for band in bands]
    axes.set_xscale("log")
    axes.set_xticks(widths, [str(width) for width in widths])
    axes.minorticks_off()
    axes.set_xlabel("width of the hidden layer")
    axes.grid(color=FAINT, alpha=0.2)
    if axes.get_legend_handles_labels()[0]:
        place = "center right" if axes.get_yscale() == "symlog" else "best"
        axes.legend(fontsize=7, loc=place, handlelength=3)
