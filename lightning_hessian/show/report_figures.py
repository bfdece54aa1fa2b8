"""Which figures go with a report; each takes all reports so far, the latest last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from matplotlib.figure import Figure

from lightning_hessian.records import CriticalPointReport, LossDifferenceReport, SpectrumReport
from lightning_hessian.show.figures.caveat import caveat
from lightning_hessian.show.figures.critical_point import (
    critical_point_history_figure,
    escape_figure,
)
from lightning_hessian.show.figures.loss_difference import loss_difference_figure
from lightning_hessian.show.figures.loss_difference_history import loss_difference_history_figure
from lightning_hessian.show.figures.neighbourhood import neighbourhood_figure
from lightning_hessian.show.figures.spectrum import spectrum_figure
from lightning_hessian.show.figures.surface import surface_figure

Figures = dict[str, Callable[[], Figure]]
"""Last part of the tag to what makes the figure."""
COURSES = frozenset({"history"})
"""Those of all reports so far, rather than of the latest."""


def spectrum_figures(reports: Sequence[SpectrumReport]) -> Figures:
    """The density, where the latest report has one.

    Args:
        reports: At least one, in order.

    Returns:
        Last part of the tag to what makes the figure.
    """
    report = reports[-1]
    return {} if report.density is None else {"spectrum": partial(spectrum_figure, report)}


def critical_point_figures(reports: Sequence[CriticalPointReport]) -> Figures:
    """The latest density and way down, where there are such, and the course of several reports.

    Args:
        reports: At least one, in order.

    Returns:
        Last part of the tag to what makes the figure; none if the latest holds no numbers.
    """
    report = reports[-1]
    if report.failure is not None:
        return {}
    figures: Figures = {}
    if report.density is not None:
        figures["spectrum"] = partial(spectrum_figure, report)
    if report.escape is not None:
        figures["escape"] = partial(escape_figure, report)
    if sum(each.failure is None for each in reports) > 1:
        figures["history"] = partial(critical_point_history_figure, tuple(reports))
    return figures


def loss_difference_figures(reports: Sequence[LossDifferenceReport]) -> Figures:
    """The latest differences and what else it measured, and the course of several reports.

    Args:
        reports: At least one, in order.

    Returns:
        Last part of the tag to what makes the figure; none if the latest holds no numbers.
    """
    report = reports[-1]
    if report.failure is not None:
        return {}
    figures: Figures = {"difference": partial(loss_difference_figure, report)}
    if sum(each.failure is None for each in reports) > 1:
        figures["history"] = partial(loss_difference_history_figure, tuple(reports))
    if report.neighbourhood:
        figures["neighbourhood"] = partial(neighbourhood_figure, report)
    if report.surface is not None:
        figures["surface"] = partial(surface_figure, report.surface, caveat=caveat([report]))
    return figures
