"""How near a critical point is, and the way down, at the size of a card."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from matplotlib.figure import Figure

from lightning_hessian.records import CriticalPointReport, Escape
from lightning_hessian.show.figures.card import card
from lightning_hessian.show.figures.course import without_failures
from lightning_hessian.show.figures.critical_point import draw_escape, draw_left


def nearness_card(reports: Sequence[CriticalPointReport]) -> Figure:
    """Draw what is left of the gradient within shares of the weights' length, from none to all.

    Args:
        reports: In order; failed ones are left out.

    Returns:
        The figure.

    Raises:
        ValueError: If no report holds numbers.
    """
    good = without_failures(reports)
    title = f"Gradient left until step {good[-1].step:,}: {good[-1].kind}"
    return card(partial(draw_left, reports=good), good, title=title, x_label="step")


def escape_card(report: CriticalPointReport, escape: Escape) -> Figure:
    """Draw the loss down the most negative direction, as it is and as it was foreseen.

    Args:
        report: Of the weights.
        escape: What it measured on the way.

    Returns:
        The figure.
    """
    return card(
        partial(draw_escape, escape=escape, loss=report.loss),
        [report],
        title=f"Loss down the most negative direction, step {report.step:,}",
        x_label="distance along it",
    )
