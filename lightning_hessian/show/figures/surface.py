"""The loss on a plane through the weights, and its change by one more sample, as a figure."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from lightning_hessian.records import LossSurface
from lightning_hessian.show.figures.frame import Frame, place, set_title
from lightning_hessian.show.figures.style import FAINT, HOLE, new_figure
from lightning_hessian.show.figures.ticks import choose_ticks

Array = npt.NDArray[np.float64]
FRAME = Frame(widths=(2.9, 2.9, 2.9), height=3.4, right=1.0, beside=1.2)
"""With room for a bar of colours right of each panel."""
NUM_LEVELS = 16
SKEWED = 0.1
"""Levels follow a logarithm where the median stands lower than this share of the range."""
LOWEST = 0.1
"""Share of the points that the lowest of such levels leaves below it."""


def surface_figure(surface: LossSurface, *, caveat: str = "") -> Figure:
    """Draw the loss, the difference along one order, and its root mean square over orders.

    The cross marks the weights. Levels are even, or even in the logarithm of the height above the
    lowest (of the distance to zero, for the difference) where a few high values would leave no
    level to the rest. Points without a finite value are hatched.

    Args:
        surface: Of at least 2 by 2 points.
        caveat: What its values are not to be read without.

    Returns:
        The figure.

    Raises:
        ValueError: If the plane has fewer points, which have no contours.
    """
    if min(len(surface.x), len(surface.y)) < 2:
        raise ValueError(
            "`surface` must have at least 2 points along each direction, got "
            f"{len(surface.x)} by {len(surface.y)}. Ask for a finer grid."
        )
    figure = new_figure(layout=None)
    k = surface.sample_size
    panels = figure.subplots(1, 3, sharex=True, sharey=True)
    title = f"Loss around the weights; u, v: {surface.directions}"
    place(figure, panels, FRAME, title, 10, caveat)
    for axes, values, is_signed, title in (
        (panels[0], surface.loss, False, "mean loss of all samples"),
        (panels[1], surface.difference, True, f"L(k + 1) - L(k) of one order, k = {k:,}"),
        (panels[2], surface.rms_difference, False, f"root mean square over orders, k = {k:,}"),
    ):
        draw_contours(axes, surface, values, is_signed=is_signed)
        set_title(axes, title)
        axes.set_xlabel("along u")
    panels[0].set_ylabel("along v")
    choose_ticks(panels[0])  # which all share
    return figure


def draw_contours(axes: Axes, surface: LossSurface, values: Tensor, *, is_signed: bool) -> None:
    """Draw one of a surface's heights over the plane, with a bar of colours beside it.

    Args:
        axes: A panel that has its place, and room to its right.
        surface: The plane.
        values: The heights.
        is_signed: Whether they are differences.
    """
    heights = np.ma.masked_invalid(values.numpy())
    x, y = surface.x.numpy(), surface.y.numpy()
    axes.set_facecolor(HOLE)
    axes.patch.set(hatch="///", edgecolor=FAINT, linewidth=0)
    if heights.count():
        finite = heights.compressed()
        levels = _signed_levels(finite) if is_signed else _levels(finite)
        cmap = "RdBu_r" if is_signed else "viridis"
        norm = BoundaryNorm(levels, 256)
        colours: Any = axes.contourf(x, y, heights, levels=levels, norm=norm, cmap=cmap)
        if finite.min() == finite.max():
            text = f"{finite[0]:.6g} everywhere"
            axes.text(0.5, 0.7, text, transform=axes.transAxes, ha="center", color="black")
        else:
            ticks = _ticks(levels, is_signed=is_signed).tolist()
            figure = axes.get_figure(root=True)
            assert figure is not None
            bar = figure.colorbar(colours, cax=_place_of_bar(figure, axes))
            bar.set_ticks(ticks, labels=[f"{level:.2g}" for level in ticks], fontsize=8)
            bar.minorticks_off()
    axes.plot(0, 0, marker="+", color="black", markersize=10, markeredgewidth=2, linestyle="none")
    if heights.count() < heights.size:
        hole = Patch(facecolor=HOLE, edgecolor=FAINT, hatch="///", label="no finite value")
        axes.legend(handles=[hole], loc="upper right", fontsize=8)
    # of the whole plane, also where its border has no values
    axes.set_xlim(x.min(), x.max())
    axes.set_ylim(y.min(), y.max())


def _place_of_bar(figure: Figure, axes: Axes) -> Axes:
    """Right of the panel, in the room that the frame leaves there."""
    place, width = axes.get_position(), figure.get_figwidth()
    return figure.add_axes((place.x1 + 0.12 / width, place.y0, 0.17 / width, place.height))


def _levels(values: Array) -> Array:
    """Ascending, from the lowest to the highest value."""
    low, high = float(values.min()), float(values.max())
    spread = high - low
    if spread <= 1e-12 * abs(high):
        # one height, but for rounding: a band around it
        margin = 1e-3 * abs(low) or 1.0
        return np.array([low - margin, high + margin])
    if np.median(values) - low < SKEWED * spread:
        return np.concatenate([[low], low + _decades(values - low, NUM_LEVELS)[:-1], [high]])
    return np.concatenate([np.linspace(low, high, NUM_LEVELS + 1)[:-1], [high]])


def _signed_levels(values: Array) -> Array:
    """Ascending and symmetric about zero, which is no level: values next to it are neutral."""
    distances = np.abs(values)
    largest = float(distances.max()) or 1.0
    half = NUM_LEVELS // 2
    if np.median(distances) < SKEWED * largest and distances.any():
        above = _decades(distances, half)
    else:
        above = largest * (np.arange(half) + 1) / half
    return np.concatenate([-above[::-1], above])


def _decades(heights: Array, count: int) -> Array:
    """Levels even in the logarithm of heights that are not negative, up to the largest."""
    largest = float(heights.max())
    positive = heights[heights > 0]
    lowest = min(float(np.quantile(positive, LOWEST)), SKEWED * largest)
    return np.concatenate([np.geomspace(lowest, largest, count)[:-1], [largest]])


def _ticks(levels: Array, *, is_signed: bool) -> Array:
    if not is_signed:
        return levels[::2]
    above = levels[levels > 0][1::2]
    return np.concatenate([-above[::-1], above])
