"""Which figures go with a report; each takes all reports so far, the latest last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from matplotlib.figure import Figure

from lightning_hessian.records import (
    CriticalPointReport,
    LossDifferenceReport,
    Report,
    SpectrumReport,
)
from lightning_hessian.show.figures.critical_point_card import escape_card, nearness_card
from lightning_hessian.show.figures.loss_difference_card import (
    difference_card,
    difference_course_card,
    neighbourhood_cards,
    surface_card,
)
from lightning_hessian.show.figures.spectrum_card import eigenvalue_card, spectrum_card

Figures = dict[str, Callable[[], Figure]]
"""Last part of the tag to what makes the figure."""
COURSES = frozenset({"history"})
"""Those of all reports so far, rather than of the latest."""


def spectrum_figures(reports: Sequence[SpectrumReport]) -> Figures:
    """The density, where the latest report has one, and the course of several reports.

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
        figures["spectrum"] = partial(spectrum_card, tuple(reports))
    if _are_several(reports):
        figures["history"] = partial(eigenvalue_card, tuple(reports))
    return figures


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
        figures["spectrum"] = partial(spectrum_card, tuple(reports))
    if report.escape is not None:
        figures["escape"] = partial(escape_card, report, report.escape)
    if _are_several(reports):
        figures["history"] = partial(nearness_card, tuple(reports))
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
    figures: Figures = {"difference": partial(difference_card, tuple(reports))}
    if _are_several(reports):
        figures["history"] = partial(difference_course_card, tuple(reports))
    figures |= neighbourhood_cards(report)
    if report.surface is not None:
        figures["surface"] = partial(surface_card, report, report.surface)
    return figures


def _are_several(reports: Sequence[Report]) -> bool:
    """Whether more than one holds numbers, so that there is a course."""
    return sum(report.failure is None for report in reports) > 1
