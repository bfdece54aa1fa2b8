"""Sharpness over training against the threshold, and the rates at which descent holds."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from examples.edge_minibatches import MinibatchCourse
from examples.edge_runs import THRESHOLD, Course, Ending
from lightning_hessian.show.figures.style import (
    CURVE,
    FAINT,
    FOURTH,
    LARGEST,
    SECOND,
    THIRD,
    new_figure,
)

COLOURS = (CURVE, SECOND, LARGEST, THIRD, FOURTH)


def edge_figure(
    courses: Sequence[Course], endings: Sequence[Ending], limits: Sequence[float]
) -> Figure:
    """Draw sharpness and loss over the trainings, and where gradient descent ends by its rate.

    Args:
        courses: Trainings that were measured on their way.
        endings: Of gradient descent at many rates and seeds.
        limits: 2 over the first sharpness, for each seed.
    """
    figure = new_figure(width=12.6, height=4.2)
    sharp, losses, scan = figure.subplots(1, 3)
    for each, colour in zip(courses, COLOURS, strict=False):
        name = "GD" if each.optimizer == "SGD" else each.optimizer
        ratios = [value / each.threshold for value in each.sharpness]
        sharp.plot(each.steps, ratios, color=colour, linewidth=1.2)
        losses.plot(
            each.steps, each.losses, color=colour, linewidth=1.2, label=f"{name}, {each.rate:g}"
        )
    sharp.axhline(1, color=FAINT, linewidth=0.8, linestyle="--")
    sharp.set_ylim(bottom=0)
    sharp.set_title("sharpness, of what the optimiser can stand", fontsize=9.5)
    losses.set_yscale("log")
    losses.set_title("training loss", fontsize=9.5)
    losses.legend(fontsize=8)
    for axes in (sharp, losses):
        axes.set_xlabel("step")
        axes.grid(color=FAINT, alpha=0.2)
    _draw_scan(scan, endings, limits)
    return figure


def minibatch_figure(courses: Sequence[MinibatchCourse]) -> Figure:
    """Draw batch sharpness and the largest eigenvalue over trainings by mini-batches.

    Args:
        courses: With any momenta, each of which has a panel.
    """
    momenta = sorted({each.momentum for each in courses})
    figure = new_figure(width=6.3 * len(momenta), height=4.2)
    panels = figure.subplots(1, len(momenta), squeeze=False)[0]
    for axes, momentum in zip(panels, momenta, strict=True):
        own = [each for each in courses if each.momentum == momentum]
        for each, colour in zip(own, COLOURS, strict=False):
            axes.errorbar(
                each.steps,
                each.ratios,
                yerr=each.errors,
                color=colour,
                linewidth=1.2,
                label=f"batches of {each.batch_size}",
            )
            axes.plot(each.steps, each.means, color=colour, linewidth=0.8, linestyle=":")
            axes.plot(each.steps, each.largest, color=colour, linewidth=0.8, linestyle="--")
        axes.axhline(1 - momentum, color=FAINT, linewidth=0.8, linestyle="-.")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("step")
        axes.set_title(f"momentum {momentum:g}: curvature in units of 2 / lr", fontsize=9.5)
        axes.grid(color=FAINT, alpha=0.2)
        axes.legend(fontsize=8)
    return figure


def _draw_scan(axes: Axes, endings: Sequence[Ending], limits: Sequence[float]) -> None:
    alive = [each for each in endings if each.kind != "diverged"]
    dead = [each for each in endings if each.kind == "diverged"]
    axes.plot([e.rate for e in alive], [e.sharpness for e in alive], "o", color=CURVE, markersize=4)
    axes.plot(
        [e.rate for e in dead],
        [0.0] * len(dead),
        "x",
        color=LARGEST,
        markersize=5,
        label="diverged",
        clip_on=False,
    )
    axes.axhline(THRESHOLD, color=FAINT, linewidth=0.8, linestyle="--")
    for place, limit in enumerate(limits):
        label = "2 over the first sharpness" if place == 0 else None
        axes.axvline(limit, color=FAINT, linewidth=0.8, linestyle=":", label=label)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("learning rate of gradient descent")
    axes.set_title(r"learning rate $\times$ largest eigenvalue, at the end", fontsize=9.5)
    axes.grid(color=FAINT, alpha=0.2)
    axes.legend(fontsize=8)
