"""Index against energy: saddles, fakes and points on the way, the theory's curve, and fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from examples.band_claims import Floats
from examples.index_claims import ENERGIES, PowerLaw
from examples.index_minimisers import Minimisers, minimiser_energy
from examples.index_points import IndexPoint
from lightning_hessian.show.figures.style import (
    BAND,
    CURVE,
    FAINT,
    LARGEST,
    SECOND,
    THIRD,
    new_figure,
)
from lightning_hessian.theory import WishartPlusWigner


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gathered:
    """All points of a study, by what they are.

    Attributes:
        ratio: ``phi``.
        searched: Critical points that searches found, distinct ones, with weight decay.
        embedded: Minima of narrower networks, made wider, likewise.
        undecayed: Both without weight decay.
        fakes: Of a small gradient, with no critical point near.
        starts: On the way down, with weight decay.
    """

    ratio: float
    searched: list[IndexPoint] = field(default_factory=list)
    embedded: list[IndexPoint] = field(default_factory=list)
    undecayed: list[IndexPoint] = field(default_factory=list)
    fakes: list[IndexPoint] = field(default_factory=list)
    starts: list[IndexPoint] = field(default_factory=list)


def pairs(points: Sequence[IndexPoint]) -> Floats:
    """``(n, 2)`` energies and indices."""
    return np.array([(each.energy, each.index) for each in points]).reshape(-1, 2)


def index_figure(
    points: Gathered, laws: dict[str, PowerLaw], minima: Sequence[Minimisers]
) -> Figure:
    """Draw all points; the saddles of a small index with the fits; the energies of minima.

    Args:
        points: By what they are.
        laws: Fits to searched saddles, by their names in the legend.
        minima: Of several ratios and decays.
    """
    figure = new_figure(width=13.2, height=4.9)
    whole, fits, energies = figure.subplots(1, 3)
    _draw_points(whole, points)
    _draw_theory(whole, points.ratio)
    _draw_fits(fits, points, laws)
    _draw_minima(energies, minima)
    for axes in (whole, fits):
        axes.set_xlabel(r"energy $\epsilon$, half the mean squared error")
        axes.set_ylabel(r"index $\alpha$, share of negative eigenvalues")
    for axes in (whole, fits, energies):
        axes.grid(color=FAINT, alpha=0.2)
        axes.legend(fontsize=7.5, handlelength=2.2)
    return figure


def _draw_points(axes: Axes, points: Gathered) -> None:
    for found, name, style in (
        (
            points.starts,
            "on a descent: not critical",
            {"marker": "o", "color": BAND, "alpha": 0.45},
        ),
        (points.fakes, "fake: small gradient", {"marker": "o", "color": LARGEST, "mfc": "none"}),
        (points.searched, "saddle, searched", {"marker": "o", "color": CURVE}),
        (points.embedded, "saddle, embedded", {"marker": "D", "color": SECOND}),
        (points.undecayed, "both, no weight decay", {"marker": "^", "color": THIRD}),
    ):
        if found:
            energies, shares = pairs(found).T
            axes.plot(
                energies,
                shares,
                linestyle="none",
                markersize=3.5,
                label=f"{name} ({len(found)})",
                **style,
            )
    axes.set_title("points by what they are", fontsize=9.5)


def _draw_theory(axes: Axes, ratio: float) -> None:
    limit = axes.get_xlim()[1]
    energies = ENERGIES[limit > ENERGIES]
    models = [WishartPlusWigner(energy=energy, ratio=ratio) for energy in energies]
    label = rf"Wishart + Wigner, $\phi$ = {ratio:.3g}"
    axes.plot(energies, [each.index for each in models], color="black", linewidth=1.2, label=label)
    axes.axvline(
        models[0].critical_energy,
        color="black",
        linewidth=0.8,
        linestyle=":",
        label=r"its $\epsilon_c$",
    )
    axes.set_xlim(0, limit)
    axes.set_ylim(bottom=-0.01)


def _draw_fits(axes: Axes, points: Gathered, laws: dict[str, PowerLaw]) -> None:
    energies, shares = pairs(points.searched).T if points.searched else np.zeros((2, 0))
    axes.plot(energies, shares, "o", color=CURVE, markersize=3.5, label="saddle, searched")
    grid = np.linspace(0, max([0.05, *shares]), 200)
    for (name, law), colour, style in zip(
        laws.items(), (SECOND, LARGEST, THIRD), ("-", "--", "-."), strict=False
    ):
        axes.plot(law.energy(grid), grid, color=colour, linestyle=style, linewidth=1.4, label=name)
    axes.axvline(
        minimiser_energy(points.ratio),
        color=FAINT,
        linewidth=0.9,
        linestyle=":",
        label=r"$(1-\phi)^2/2$",
    )
    axes.set_ylim(bottom=-0.01)
    axes.set_title("power laws, fitted to searched saddles", fontsize=9.5)


def _draw_minima(axes: Axes, minima: Sequence[Minimisers]) -> None:
    grid = np.linspace(0, 1, 100)
    axes.plot(grid, [minimiser_energy(x) for x in grid], color="black", label=r"$(1-\phi)^2/2$")
    decays = sorted({each.decay for each in minima})
    for decay, colour, shift in zip(decays, (THIRD, CURVE), (-0.006, 0.006), strict=False):
        found = [each for each in minima if each.decay == decay]
        axes.errorbar(
            [each.ratio + shift for each in found],
            [each.mean for each in found],
            [0 if np.isnan(each.standard_error) else each.standard_error for each in found],
            fmt="o",
            color=colour,
            markersize=4,
            capsize=3,
            label=f"minima, weight decay {decay:g}" if decay else "minima, no weight decay",
        )
    axes.set_xlabel(r"$\phi$, parameters over numbers to be learnt")
    axes.set_title(r"energy $\epsilon$ of minima", fontsize=9.5)
