"""Spin glasses: energies, numbers and indices of critical points, and a fit to real ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_hessian.show.figures.frame import Frame, place, set_title
from lightning_hessian.show.figures.style import BAND, CURVE, FAINT, LARGEST, new_figure
from lightning_hessian.show.figures.ticks import choose_ticks
from lightning_hessian.theory import (
    EnergyFit,
    complexity,
    index_energy,
    index_share,
    threshold_energy,
)

WIDTHS, HEIGHT = (3.9, 3.4), 3.0
SMALL = 8
NUM_POINTS = 600
FEW = 4
"""Indices drawn, from 0."""


def spin_glass_figure(depth: int = 3) -> Figure:
    """Draw what the spherical spin glass of a depth says of its critical points.

    On the left how their expected number grows with ``Lambda``, of all and of each low index: no
    critical point of index ``k`` or more is to be expected below ``-E_k``, where its curve crosses
    zero. On the right the share of negative eigenvalues at an energy. The shaded band is that of
    critical points of a low index. The energies are the model's own, ``u = L / Lambda``: to lay
    them over losses takes a fit (:func:`spin_glass_fit_figure`).

    Args:
        depth: ``H``, the layers of weights, at least 2.

    Returns:
        The figure.

    Raises:
        ValueError: If ``depth`` is below 2.
    """
    edge, lowest = threshold_energy(depth), index_energy(0, depth)
    figure = new_figure(layout=None)
    numbers, shares = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    _draw_numbers(numbers, depth, edge, lowest)
    u = np.linspace(-1.1 * lowest, 1.1 * edge, NUM_POINTS)
    shares.axvspan(-lowest, -edge, color=BAND, alpha=0.5, linewidth=0)
    shares.plot(u, index_share(u, depth), color=CURVE)
    shares.set_ylabel("share of negative eigenvalues")
    set_title(shares, "index against energy")
    for axes in (numbers, shares):
        axes.set_xlabel("energy u = L / Λ")
        choose_ticks(axes)
    title = f"Critical points of the spherical spin glass, H = {depth}"
    place(figure, [numbers, shares], Frame(WIDTHS, HEIGHT, beside=0.95), title, 12)
    return figure


def _draw_numbers(axes: Axes, depth: int, edge: float, lowest: float) -> None:
    room = (lowest - edge) or 0.05
    u = np.linspace(-lowest - 0.4 * room, -edge + 0.6 * room, NUM_POINTS)
    axes.axvspan(-lowest, -edge, color=BAND, alpha=0.5, linewidth=0, label="-E₀ to -E∞")
    axes.axhline(0, color=FAINT, linewidth=0.8)
    axes.plot(u, complexity(u, depth), color=CURVE, linewidth=1.8, label="all indices")
    for index in range(FEW):
        energy = index_energy(index, depth)
        curve = complexity(u, depth, index=index)
        axes.plot(
            u,
            curve,
            color=LARGEST,
            alpha=1 - 0.2 * index,
            linewidth=1.0,
            label=f"index {index}, zero at -{energy:.4f}",
        )
        axes.plot([-energy], [0], color=LARGEST, marker="o", markersize=3, linestyle="none")
    # for two layers there are as few as one pair of each index
    top = float(complexity(u[-1:], depth)[0]) or room
    axes.set_ylim(-0.8 * top, 1.3 * top)
    axes.set_xlim(u[0], u[-1])
    axes.set_ylabel("Θ(u) = lim log E[number] / Λ")
    axes.legend(loc="lower right", frameon=False, fontsize=SMALL)
    set_title(axes, "number of critical points below u")


def spin_glass_fit_figure(losses: npt.ArrayLike, shares: npt.ArrayLike, fit: EnergyFit) -> Figure:
    """Draw the indices of real critical points against their losses, with a fitted spin glass.

    Its title says that it is a fit, of which numbers, and whether a straight line would do. The
    axis at the top has the energies that the fit makes of the losses.

    Args:
        losses: ``(m,)`` as fitted.
        shares: ``(m,)`` of negative eigenvalues.
        fit: Of :func:`fit_energies`.

    Returns:
        The figure.
    """
    x = np.asarray(losses, dtype=np.float64)
    figure = new_figure(layout=None)
    axes = figure.add_subplot()
    margin = 0.05 * float(np.ptp(x))
    grid = np.linspace(x.min() - margin, x.max() + margin, NUM_POINTS)
    axes.plot(
        grid,
        index_share(fit.energies(grid), fit.depth),
        color=CURVE,
        label=f"spin glass, H = {fit.depth}, shift and scale fitted",
    )
    axes.plot(
        x,
        np.asarray(shares),
        color=LARGEST,
        linestyle="none",
        marker="o",
        markersize=4,
        label=f"{fit.num_points} critical points",
    )
    axes.set_xlim(grid[0], grid[-1])
    axes.set_ylim(bottom=-0.01)
    axes.set_xlabel("loss")
    axes.set_ylabel("share of negative eigenvalues")

    def losses_of(energies: npt.ArrayLike) -> npt.NDArray[np.float64]:
        return fit.shift + fit.scale * np.asarray(energies, dtype=np.float64)

    top = axes.secondary_xaxis("top", functions=(fit.energies, losses_of))
    top.set_xlabel("energy u by the fit", fontsize=SMALL)
    top.tick_params(labelsize=SMALL)
    axes.legend(loc="upper left", frameon=False, fontsize=SMALL)
    place(figure, [axes], Frame((6.0,), 3.4, top=0.6), f"Index against loss: {fit}", 11)
    return figure
