"""A picture at the size at which TensorBoard shows one: some 350 pixels wide, 215 high."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_hessian.records import Report
from lightning_hessian.show.figures.caveat import caveat
from lightning_hessian.show.figures.frame import Frame, place
from lightning_hessian.show.figures.style import FAINT, new_figure
from lightning_hessian.show.figures.ticks import choose_ticks

FRAME = Frame(widths=(3.5,), height=1.7, left=0.55, right=0.15, bottom=0.42, top=0.16)
DOTS = 200
"""To the inch; shown are some 85."""
TITLE, TEXT, LEGEND = 9, 8, 7.5
"""Sizes of letters, of which a point is a little more than a pixel."""


def card(
    draw: Callable[[Axes], None],
    reports: Sequence[Report],
    *,
    title: str,
    x_label: str,
    frame: Frame = FRAME,
) -> Figure:
    """One panel under a line that says what stands on its vertical axis.

    Args:
        draw: Draws the panel.
        reports: That are drawn, whose notes are named below.
        title: What is seen, and of which step.
        x_label: What stands on the horizontal axis.
        frame: Sizes of the panel and around it.

    Returns:
        The figure.
    """
    figure = new_figure(layout=None, dots=DOTS)
    axes = figure.add_axes((0, 0, 1, 1))
    place(figure, [axes], frame, title, TITLE, caveat(reports))
    draw(axes)
    axes.set_xlabel(x_label, fontsize=TEXT)
    axes.tick_params(labelsize=TEXT)
    axes.yaxis.get_offset_text().set_fontsize(TEXT)
    axes.grid(color=FAINT, alpha=0.2)
    choose_ticks(axes)
    if axes.get_legend_handles_labels()[1]:
        # curves are seen through it
        axes.legend(fontsize=LEGEND, handlelength=1.4, borderaxespad=0.2, edgecolor="none")
    return figure
