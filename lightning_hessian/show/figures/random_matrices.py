"""A measured spectrum, and the random matrices that were laid over it."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_hessian.records import (
    FreeSumModel,
    GaussNewtonSplit,
    MatrixModel,
    RandomMatrixComparison,
    SpectralDensity,
)
from lightning_hessian.show.figures.frame import Frame, place, set_title, wrapped
from lightning_hessian.show.figures.spectrum import SEVERAL_EIGENVALUES, grid_of, height_of_one
from lightning_hessian.show.figures.style import (
    CURVE,
    FAINT,
    FOURTH,
    LARGEST,
    SECOND,
    THIRD,
    new_figure,
)
from lightning_hessian.show.figures.ticks import choose_ticks

WIDTHS, HEIGHT = (4.3, 3.0), 3.0
SMALL, LINE = 8, 0.155
"""Size of the legend's letters, and inches of its lines."""
COLOURS = (SECOND, THIRD, FOURTH, FAINT)
STYLES = ("--", "-.", (0, (5, 1)), (0, (1, 1)))
AROUND = 1.5
"""How far the right panel reaches, in distances from zero to the lowest eigenvalue of all."""


def random_matrix_figure(split: GaussNewtonSplit, comparison: RandomMatrixComparison) -> Figure:
    """Draw a measured density with all laws over it, and the shares of eigenvalues around zero.

    The legend has each law's parameters, its distances and whether it fits. All curves on the left
    have the kernel of the measured density. On the right the curves end at zero with the share of
    negative eigenvalues; the band is the bracket of the measured one.

    Args:
        split: What was measured.
        comparison: What was laid over it.

    Returns:
        The figure.
    """
    figure = new_figure(layout=None)
    density, shares = figure.add_subplot(1, 2, 1, yscale="log"), figure.add_subplot(1, 2, 2)
    laws: list[FreeSumModel | MatrixModel] = [comparison.free, *comparison.models]
    colours, styles = (LARGEST, *COLOURS), ("-", *STYLES)
    floor = _draw_density(density, split)
    for law, colour, style in zip(laws, colours, styles, strict=False):
        x = grid_of(split.hessian.density)
        y = law.density.evaluate(x).clamp_min(floor)
        density.plot(x.numpy(), y.numpy(), color=colour, linestyle=style, linewidth=1.2, label=law)
    _draw_shares(shares, split, laws, colours, styles)
    set_title(density, "eigenvalues of the Hessian")
    set_title(shares, "share of eigenvalues below")
    for axes in (density, shares):
        axes.set_xlabel("eigenvalue")
        choose_ticks(axes)
    density.set_ylabel("spectral density")
    figure.legend(
        *density.get_legend_handles_labels(), loc="lower left", frameon=False, fontsize=SMALL
    )
    below = 0.7 + LINE * (len(laws) + 1)
    frame = Frame(WIDTHS, HEIGHT, bottom=below)
    place(figure, [density, shares], frame, _title(split, comparison, frame.width), 10)
    return figure


def _draw_density(axes: Axes, split: GaussNewtonSplit) -> float:
    density = split.hessian.density
    x = grid_of(density)
    floor = SEVERAL_EIGENVALUES * height_of_one(density, split.num_parameters)
    y = density.evaluate(x).clamp_min(floor)
    mass = split.hessian.negative_mass
    name = (
        f"measured: share below zero {mass.fraction:.3f} "
        f"({mass.bracket[0]:.3f} to {mass.bracket[1]:.3f}), threshold {mass.threshold:.1e}"
    )
    axes.plot(x.numpy(), y.numpy(), color=CURVE, linewidth=1.8, label=name)
    axes.set_ylim(floor, 3 * float(y.max()))
    axes.set_xlim(float(x[0]), float(x[-1]))
    return floor


def _draw_shares(
    axes: Axes,
    split: GaussNewtonSplit,
    laws: list[FreeSumModel | MatrixModel],
    colours: tuple[str, ...],
    styles: tuple[object, ...],
) -> None:
    measured, mass = split.hessian.density, split.hessian.negative_mass
    lowest = min(float(each.density.nodes[0]) for each in (*laws, split.hessian))
    reach = AROUND * max(-lowest, 1e-3 * split.hessian.norm.value)
    axes.axvline(0, color=FAINT, linewidth=0.8)
    axes.fill_between([-reach, 0], *mass.bracket, color=CURVE, alpha=0.12, linewidth=0)
    for law, colour, style in zip(laws, colours, styles, strict=False):
        x, y = _shares(law.density, reach)
        axes.plot(x, y, color=colour, linestyle=style, linewidth=1.2, drawstyle="steps-post")
    axes.plot(*_shares(measured, reach), color=CURVE, linewidth=1.8, drawstyle="steps-post")
    axes.set_xlim(-reach, reach)
    axes.set_ylim(0, 1)


def _shares(density: SpectralDensity, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Places within reach, and the shares up to each."""
    x = np.concatenate([[-2 * reach], density.nodes.numpy(), [2 * reach]])
    y = np.concatenate([[0.0], density.weights.numpy().cumsum(), [1.0]])
    return x, y


def _title(split: GaussNewtonSplit, comparison: RandomMatrixComparison, width: float) -> str:
    share = split.residual_share
    parts = [
        f"{split.num_parameters:,} parameters, loss {split.loss:.4g} "
        f"(outputs of {', '.join(split.outputs)})",
        f"||H1|| / ||H|| = {share.value:.3g}; Kolmogorov distances are at least "
        f"{comparison.resolution:.2g}",
    ]
    names = [note.name for note in (*split.notes, *comparison.notes) if note.qualifies]
    if names:
        parts.append(f"Read with the notes: {'; '.join(names)}")
    return wrapped("\n".join(["Random matrices over a measured spectrum", *parts]), width, 10)
