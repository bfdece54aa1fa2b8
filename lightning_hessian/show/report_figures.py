"""Which figures are logged of a report; each takes all reports so far, the latest last."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from lightning_hessian.records import LossDifferenceReport, SpectrumReport
from lightning_hessian.show.figures.loss_difference import loss_difference_figure
from lightning_hessian.show.figures.loss_difference_history import loss_difference_history_figure
from lightning_hessian.show.figures.neighbourhood import neighbourhood_figure
from lightning_hessian.show.figures.spectrum import spectrum_figure
from lightning_hessian.show.figures.surface import surface_figure

Figures = dict[str, Figure]
"""Last part of the tag to figure."""


def spectrum_figures(reports: Sequence[SpectrumReport]) -> Figures:
    """The density, where the latest report has one.

    Args:
        reports: At least one, in order.

    Returns:
        Last part of the tag to figure.
    """
    report = reports[-1]
    return {} if report.density is None else {"spectrum": spectrum_figure(report)}


def loss_difference_figures(reports: Sequence[LossDifferenceReport]) -> Figures:
    """The latest differences and what else it measured, and the course of several reports.

    Args:
        reports: At least one, in order.

    Returns:
        Last part of the tag to figure; none if the latest holds no numbers.
    """
    report = reports[-1]
    if report.failure is not None:
        return {}
    figures: Figures = {"difference": loss_difference_figure(report)}
    if sum(each.failure is None for each in reports) > 1:
        figures["history"] = loss_difference_history_figure(reports)
    if report.neighbourhood:
        figures["neighbourhood"] = neighbourhood_figure(report)
    if report.surface is not None:
        figures["surface"] = surface_figure(report.surface)
    return figures
