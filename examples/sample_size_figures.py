"""The paper's figure of widths or of depths: as it is, as its script draws it, against the loss."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from examples.sample_size_claims import exponential_average
from examples.sample_size_runs import FIXED_DEPTH, FIXED_WIDTH, NUM_ORDERS, Family, at_largest
from lightning_hessian.show.figures.style import FAINT, new_figure

DIFFERENCE = r"mean $|L_{k+1} - L_k|$"
SCALE = 1e5
SEEDS_WITH_COURSE = 3


def family_figure(families: Sequence[Family]) -> Figure:
    """Draw families that vary the same setting, a row for each data set.

    Left, the closed form: the median over seeds in a band from the lowest to the highest, without
    networks that died, which give the same loss on all samples. In the middle one seed by the
    paper's recipe, over the closed form in grey. Right, the difference at N against the training
    loss in the course of some trainings, with the ends of all marked.
    """
    figure = new_figure(width=12.6, height=0.5 + 3.5 * len(families))
    rows = figure.subplots(len(families), 3, squeeze=False)
    for axes, family in zip(rows, families, strict=True):
        colours = matplotlib.colormaps["viridis_r"](np.linspace(0.1, 1, len(family.settings)))
        for index, (setting, colour) in enumerate(zip(family.settings, colours, strict=True)):
            _draw_closed_form(axes[0], family, index, f"{family.varied} {setting}", colour)
            _draw_as_the_script(axes[1], family, index, colour)
            _draw_against_loss(axes[2], family, index, colour)
        _finish(axes, family)
    fixed = f"depth {FIXED_DEPTH}" if families[0].varied == "width" else f"width {FIXED_WIDTH}"
    count = families[0].runs[0][0].report.num_samples
    figure.suptitle(
        f"One more training sample, networks of {fixed}, N = {count:,}, "
        f"{len(families[0].runs)} seeds",
        fontsize=11,
    )
    return figure


def _draw_closed_form(axes: Axes, family: Family, index: int, label: str, colour: object) -> None:
    alive = [run for run in family.of(index) if not run.is_dead]
    num_dead = len(family.runs) - len(alive)
    if num_dead:
        label += f" ({num_dead} of {len(family.runs)} died)"
    if not alive:
        axes.plot([], [], color=colour, label=label)
        return
    found = [run.report.differences for run in alive]
    sizes = found[0].sample_sizes.numpy()
    curves = np.stack([each.mean_abs.numpy() for each in found])
    axes.plot(sizes, np.median(curves, axis=0), color=colour, label=label, linewidth=1.4)
    axes.fill_between(
        sizes, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.2, linewidth=0
    )


def _draw_as_the_script(axes: Axes, family: Family, index: int, colour: object) -> None:
    run = family.of(index)[0]
    axes.plot(exponential_average(run.permuted), color=colour, linewidth=1.2)
    exact = run.report.differences
    sizes, curve = exact.sample_sizes.numpy(), exact.mean_abs.numpy()
    axes.plot(sizes, curve, color=FAINT, linewidth=0.8, linestyle="--")


def _draw_against_loss(axes: Axes, family: Family, index: int, colour: object) -> None:
    for run in family.of(index)[:SEEDS_WITH_COURSE]:
        course = [(report.loss, SCALE * at_largest(report)) for report in run.course]
        axes.plot(*zip(*course, strict=True), color=colour, linewidth=0.6, alpha=0.6)
    ends = [(run.report.loss, SCALE * run.difference) for run in family.of(index)]
    axes.plot(
        *zip(*ends, strict=True), "o", color=colour, markersize=5, markeredgecolor="white", zorder=3
    )


def _finish(axes: Sequence[Axes], family: Family) -> None:
    curves = (run.report.differences for row in family.runs for run in row)
    largest = max(float(each.mean_abs.max()) for each in curves)
    differences = [run.difference for row in family.runs for run in row if not run.is_dead]
    titles = (
        f"{family.data}: closed form,\nmedian and range over seeds",
        f"as the paper's script: {NUM_ORDERS} orders, smoothed\n(dashed: closed form, same seed)",
        "at N, in the course of training\n(dots: the ends, all seeds)",
    )
    for place, title in zip(axes, titles, strict=True):
        place.set_title(title, fontsize=9.5)
        place.grid(color=FAINT, alpha=0.2)
    for place in axes[:2]:
        place.set_yscale("log")
        place.set_ylim(min(differences, default=largest) / 1.5, largest * 1.5)
        place.set_xlabel("k")
        place.set_ylabel(DIFFERENCE, fontsize=9)
    axes[0].set_xscale("log")
    axes[0].legend(fontsize=8)
    axes[2].set_xlabel("training loss")
    axes[2].set_ylabel(rf"mean $|L_N - L_{{N-1}}|$, $10^{{-{np.log10(SCALE):.0f}}}$", fontsize=9)
    axes[2].set_ylim(bottom=0)
