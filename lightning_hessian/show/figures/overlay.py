"""The spectral densities of several reports on one pair of axes."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_hessian.records import SpectralDensity, SpectrumReport
from lightning_hessian.show.figures.caveat import caveat
from lightning_hessian.show.figures.frame import Frame, lines_height, place, set_title, wrapped
from lightning_hessian.show.figures.spectrum import (
    HEIGHT,
    SEVERAL_EIGENVALUES,
    SMALL,
    WIDTH,
    describe,
    grid_of,
    height_of_one,
)
from lightning_hessian.show.figures.style import FAINT, new_figure
from lightning_hessian.show.figures.ticks import choose_ticks

Spectra = Sequence[tuple[str, SpectrumReport]]
FAR_APART = 4.0
"""By how much the ends may differ before those of the widest spectrum leave the others no room."""
COLOURS = "viridis"
LIGHTEST = 0.85
"""The yellow beyond is hard to see on white."""


def overlay_figure(spectra: Spectra, *, title: str) -> Figure:
    """Draw densities over each other, on a logarithmic scale, from light to dark in their order.

    Triangles below the curves stand at the largest and the smallest eigenvalue of each. Where one
    spectrum reaches more than four times as far as another, the axis of eigenvalues goes from
    linear, near zero, to logarithmic, beyond the narrowest.

    Args:
        spectra: Names in the legend, each with its report, which has a density.
        title: Of the figure.

    Returns:
        The figure.

    Raises:
        ValueError: If there is none, or one without a density.
    """
    without = [name for name, report in spectra if report.density is None]
    if without or not spectra:
        raise ValueError(
            "`spectra` must hold reports with a density, got "
            f"{', '.join(without) + ' without one' if without else 'none at all'}. Measure with "
            "`density=True`."
        )
    figure = new_figure(layout=None)
    axes = figure.add_subplot(yscale="log")
    colours = matplotlib.colormaps[COLOURS](np.linspace(LIGHTEST, 0, len(spectra)))
    floor = min(_floor_of(report) for _, report in spectra)
    for (name, report), colour in zip(spectra, colours, strict=True):
        _draw(axes, name, report, colour, floor)
    axes.set_ylim(bottom=floor)
    axes.margins(x=0)
    reaches = [_reach(_density(report)) for _, report in spectra]
    if max(reaches) > FAR_APART * min(reaches):
        axes.set_xscale("asinh", linear_width=min(reaches))
    axes.set_xlabel("eigenvalue")
    axes.set_ylabel("spectral density")
    axes.legend(loc="upper right", frameon=False, fontsize=SMALL)
    choose_ticks(axes)
    circumstances = wrapped(_shared(spectra), WIDTH, SMALL)
    set_title(axes, circumstances, fontsize=SMALL, color=FAINT)
    frame = Frame((WIDTH,), HEIGHT, top=0.1 + lines_height(circumstances, SMALL))
    place(figure, [axes], frame, title, 12, caveat([report for _, report in spectra]))
    return figure


def _density(report: SpectrumReport) -> SpectralDensity:
    assert report.density is not None
    return report.density


def _reach(density: SpectralDensity) -> float:
    """How far from zero a spectrum is drawn."""
    return float(grid_of(density).abs().max())


def _floor_of(report: SpectrumReport) -> float:
    return SEVERAL_EIGENVALUES * height_of_one(_density(report), report.num_parameters)


def _draw(axes: Axes, name: str, report: SpectrumReport, colour: np.ndarray, floor: float) -> None:
    x = grid_of(_density(report))
    y = _density(report).evaluate(x).clamp_min(floor)
    axes.plot(x.numpy(), y.numpy(), color=colour, linewidth=1.4, label=name)
    ends = [float(end.values[0]) for end in (report.smallest, report.largest) if len(end.values)]
    axes.plot(
        ends,
        [1.5 * floor] * len(ends),
        linestyle="none",
        marker="^",
        markersize=6,
        markerfacecolor="none",
        markeredgecolor=colour,
    )


def _shared(spectra: Spectra) -> str:
    """What all were measured on, where it is the same."""
    described = {describe(report) for _, report in spectra}
    return described.pop() if len(described) == 1 else "measured on different data, see the reports"
