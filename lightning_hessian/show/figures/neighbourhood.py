"""The variance of the loss around the weights, beside its second-order prediction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_hessian.records import LossDifferenceReport, NeighbourhoodVariance
from lightning_hessian.show.figures.caveat import caveat
from lightning_hessian.show.figures.frame import Frame, place, set_title
from lightning_hessian.show.figures.spectrum import describe
from lightning_hessian.show.figures.style import CURVE, FAINT, SECOND, THIRD, new_figure
from lightning_hessian.show.figures.ticks import choose_ticks

ERRORS = 2
WIDTH = 4.3
"""Of a panel, in inches."""
PARTS = (("value", "-", SECOND), ("linear", "--", THIRD), ("quadratic", ":", FAINT))


def neighbourhood_figure(report: LossDifferenceReport) -> Figure:
    """Draw ``V(sigma)`` as measured, its prediction and the prediction's parts, against ``sigma``.

    One panel for all parameters and one for each subspace. A negative linear part, the covariance
    of loss and trace outweighing the gradients' scatter, is drawn by its absolute value, hollow.

    Args:
        report: With ``neighbourhood``.

    Returns:
        The figure.

    Raises:
        ValueError: If ``V(sigma)`` was not measured.
    """
    if not report.neighbourhood:
        raise ValueError(
            "`report` must hold the variance around the weights, got none "
            f"(failure: {report.failure}). Ask for perturbations of some `sigma`."
        )
    spaces = list(dict.fromkeys(variance.dimensions for variance in report.neighbourhood))
    figure = new_figure(layout=None)
    panels = [figure.add_axes((0, 0, 1, 1)) for _ in spaces]
    for axes, dimensions in zip(panels, spaces, strict=True):
        draw_variances(axes, [v for v in report.neighbourhood if v.dimensions == dimensions])
        axes.set_xlabel("sigma, standard deviation of each coordinate's perturbation", fontsize=9)
        axes.set_ylabel("variance over samples")
        axes.grid(color=FAINT, alpha=0.2)
        axes.legend(frameon=False, fontsize=8)
        choose_ticks(axes)
        where = "all parameters" if dimensions is None else f"{dimensions:,} dimensions"
        set_title(axes, f"perturbed: {where}")
    title = f"Variance of the loss around the weights at step {report.step:,}"
    frame = Frame(widths=(WIDTH,) * len(spaces), height=3.3, beside=0.9)
    place(figure, panels, frame, f"{title}\n{describe(report)}", 9.5, caveat([report]))
    return figure


def draw_variances(axes: Axes, variances: Sequence[NeighbourhoodVariance]) -> None:
    """Draw ``V(sigma)`` as measured, and its prediction with the parts.

    Args:
        axes: The panel.
        variances: Of one space.
    """
    variances = sorted(variances, key=lambda variance: variance.sigma)
    sigma = np.array([variance.sigma for variance in variances])
    axes.errorbar(
        sigma,
        [variance.variance for variance in variances],
        yerr=[ERRORS * variance.standard_error for variance in variances],
        color=CURVE,
        marker="o",
        markersize=4,
        capsize=2,
        linestyle="none",
        label="V(sigma) measured, ± 2 errors",
    )
    prediction = [variance.prediction for variance in variances]
    if np.isfinite(prediction).any():
        axes.plot(sigma, prediction, color=CURVE, linewidth=1.2, label="second-order prediction")
    for name, dashes, colour in PARTS:
        part = np.array([getattr(variance, f"{name}_part") for variance in variances])
        if not np.isfinite(part).any():
            continue
        label = f"{name} part"
        axes.plot(sigma, np.abs(part), color=colour, linestyle=dashes, marker=".", label=label)
        negative = part < 0
        if negative.any():
            axes.plot(
                sigma[negative],
                -part[negative],
                linestyle="none",
                marker="o",
                markerfacecolor="white",
                markeredgecolor=colour,
                label=f"{name} part, negative",
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
