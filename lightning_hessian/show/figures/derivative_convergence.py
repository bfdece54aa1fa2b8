"""How far gradient and Hessian of ``k`` samples are from those of all."""

from __future__ import annotations

import math

import torch
from matplotlib.axes import Axes

from lightning_hessian.records import LossDifferenceReport
from lightning_hessian.show.figures.frame import set_title
from lightning_hessian.show.figures.style import BAND, CURVE, FAINT, SECOND, SECOND_BAND

ERRORS = 2
CLOSE = 0.1
NUM_POINTS = 200
FLOOR = 1e-3


def has_derivatives(report: LossDifferenceReport) -> bool:
    """Whether there is something to draw.

    Args:
        report: With more than one sample.

    Returns:
        Whether the scatter of gradients or Hessians was measured, relative to a norm above zero.
    """
    return bool(_spreads(report))


def draw_distances(axes: Axes, report: LossDifferenceReport) -> None:
    """Draw the expected distances, ``S_H sqrt(1/k - 1/N) / ||H||_F``, and those of the gradient.

    Bands are two standard errors of ``S_H`` and ``S_g``, those of the norms not included.

    Args:
        axes: Empty.
        report: With derivatives.
    """
    largest = report.num_samples
    end = math.log10(largest - 1)
    # numpy's: of a tensor matplotlib looks at each element
    k = torch.logspace(0, end, NUM_POINTS, dtype=torch.float64).numpy()
    falling = (1 / k - 1 / largest) ** 0.5
    for name, colour, band, spread, error in _spreads(report):
        label = f"{name}: within {CLOSE:.0%} from k = {_size_needed(spread, largest):,}"
        axes.plot(k, spread * falling, color=colour, label=label)
        if math.isfinite(error):
            lower = max(spread - ERRORS * error, FLOOR * spread)
            upper = spread + ERRORS * error
            axes.fill_between(k, lower * falling, upper * falling, color=band, alpha=0.5)
    axes.axhline(CLOSE, color=FAINT, linewidth=0.8, linestyle="--")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("number of samples k")
    axes.set_ylabel(f"distance to that of all N = {largest:,}, relative", fontsize=9)
    set_title(axes, "gradient and Hessian of k samples")
    axes.grid(color=FAINT, alpha=0.2)


def _size_needed(spread: float, largest: int) -> int:
    """The smallest ``k`` with ``spread sqrt(1/k - 1/N)`` at most ``CLOSE``."""
    return math.ceil(1 / (1 / largest + (CLOSE / spread) ** 2))


def _spreads(report: LossDifferenceReport) -> list[tuple[str, str, str, float, float]]:
    """Name, colours, and the deviation with its error relative to the norm, of those measured."""
    found = []
    for name, colour, band, spread in (
        ("gradient", SECOND, SECOND_BAND, report.gradient),
        ("Hessian", CURVE, BAND, report.hessian),
    ):
        if spread is None or report.num_samples < 2:
            continue
        if spread.variance.value > 0 and spread.norm > 0:
            root, norm = spread.deviation, spread.norm
            found.append((name, colour, band, root.value / norm, root.standard_error / norm))
    return found
