"""Panels side by side, each against the step: what all courses of reports have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_hessian.records import Report
from lightning_hessian.show.figures.caveat import caveat
from lightning_hessian.show.figures.frame import Frame, place
from lightning_hessian.show.figures.style import FAINT, new_figure
from lightning_hessian.show.figures.ticks import choose_ticks

AnyReport = TypeVar("AnyReport", bound=Report)


def course_figure(
    reports: Sequence[AnyReport],
    panels: Sequence[Callable[[Axes, Sequence[AnyReport]], None]],
    *,
    frame: Frame,
    title: str,
    size: float = 10,
) -> Figure:
    """Draw panels of reports against the step, with the notes that qualify them.

    Args:
        reports: With numbers, in order.
        panels: Each draws itself, and its title.
        frame: As many widths as panels stand in a row.
        title: Of the figure.
        size: Of its letters.

    Returns:
        The figure.
    """
    figure = new_figure(layout=None)
    grid = [figure.add_axes((0, 0, 1, 1)) for _ in panels]
    for draw, axes in zip(panels, grid, strict=True):
        draw(axes, reports)
        axes.set_xlabel("step")
        axes.grid(color=FAINT, alpha=0.2)
        choose_ticks(axes)
    place(figure, grid, frame, title, size, caveat(reports))
    return figure


def without_failures(reports: Sequence[AnyReport]) -> list[AnyReport]:
    """Those that hold numbers.

    Args:
        reports: Of any kind, in order.

    Returns:
        At least one.

    Raises:
        ValueError: If no report holds numbers.
    """
    good = [report for report in reports if report.failure is None]
    if not good:
        given = (
            f"{len(reports)} failed ones, the last by: {reports[-1].failure}"
            if reports
            else "an empty list. Fit first"
        )
        raise ValueError(f"`reports` must hold at least one without failure, got {given}.")
    return good
