"""The spectral density of one report as a figure."""

from __future__ import annotations

import math

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from lightning_hessian.records import CriticalPointReport, Report, SpectralDensity, SpectrumReport
from lightning_hessian.show.figures.caveat import caveat
from lightning_hessian.show.figures.frame import Frame, lines_height, place, set_title, wrapped
from lightning_hessian.show.figures.style import BAND, CURVE, FAINT, LARGEST, SMALLEST, new_figure
from lightning_hessian.show.figures.ticks import choose_ticks

NUM_POINTS = 2000
SEVERAL_EIGENVALUES = 0.1
WIDTH, HEIGHT = 7.0, 3.46
"""Of the axes, in inches."""
SMALL = 8.5


def spectrum_figure(report: SpectrumReport | CriticalPointReport) -> Figure:
    """Draw the density on a logarithmic scale, with its error band and the eigenvalues found.

    The faint horizontal line is the height of a single eigenvalue's kernel: what stands there
    is one direction, what rises above is many. The band is two standard errors over the probes;
    isolated eigenvalues have exact mass and no band.

    Args:
        report: With a density.

    Returns:
        The figure.

    Raises:
        ValueError: If the report has no density.
    """
    density = report.density
    if density is None:
        raise ValueError(
            "`report` must hold a density, got None. Measure with `density=True`, and 14 products; "
            f"a failed measurement has none (failure: {report.failure})."
        )
    figure = new_figure(layout=None)
    axes = figure.add_subplot(yscale="log")
    floor = _draw_density(axes, density, report.num_parameters)
    _mark_eigenvalues(axes, report, floor)
    axes.set_xlabel("eigenvalue")
    axes.set_ylabel("spectral density")
    axes.legend(loc="upper right", frameon=False)
    choose_ticks(axes)
    circumstances = wrapped(describe(report), WIDTH, SMALL)
    set_title(axes, circumstances, fontsize=SMALL, color=FAINT)
    frame = Frame((WIDTH,), HEIGHT, top=0.1 + lines_height(circumstances, SMALL))
    title = f"Hessian of the training loss at step {report.step:,}"
    place(figure, [axes], frame, title, 12, caveat([report]))
    return figure


def describe(report: Report) -> str:
    """What a report was measured on, in one line.

    Args:
        report: Any.

    Returns:
        Parameters, samples, mode.
    """
    averaged = ", averaged weights" if report.weights == "averaged" else ""
    return f"{report.num_parameters:,} parameters, {report.data}, {report.mode} mode{averaged}"


def grid_of(density: SpectralDensity) -> Tensor:
    """Where a density is drawn: five widths of its kernel beyond the outermost nodes.

    Args:
        density: Of any width.

    Returns:
        ``(NUM_POINTS,)``.
    """
    nodes, width = density.nodes, density.bandwidth
    low, high = float(nodes[0]) - 5 * width, float(nodes[-1]) + 5 * width
    # not in the user's default type: bfloat16 would have steps wider than the kernel
    return torch.linspace(low, high, NUM_POINTS, dtype=torch.float64)


def height_of_one(density: SpectralDensity, num_parameters: int) -> float:
    """How high a single eigenvalue's kernel stands.

    Args:
        density: Of a certain width.
        num_parameters: Eigenvalues that there are.

    Returns:
        A density.
    """
    return 1 / (num_parameters * density.bandwidth * math.sqrt(2 * math.pi))


def _draw_density(axes: Axes, density: SpectralDensity, num_parameters: int) -> float:
    x = grid_of(density)
    y = density.evaluate(x)
    one_eigenvalue = height_of_one(density, num_parameters)
    floor = SEVERAL_EIGENVALUES * one_eigenvalue
    error = 2 * density.standard_error(x)
    # without a second probe there is no band that tells how coarse it is
    is_coarse = density.probe_weights.shape[1] == 1 and len(density.nodes) < num_parameters
    label = "spectral density, by one probe" if is_coarse else "spectral density"
    # numpy's: of a tensor matplotlib looks at each element
    axes.plot(x.numpy(), y.clamp_min(floor).numpy(), color=CURVE, linewidth=1.4, label=label)
    if bool(error.isfinite().all()):
        axes.fill_between(
            x.numpy(),
            (y - error).clamp_min(floor).numpy(),
            (y + error).clamp_min(floor).numpy(),
            color=BAND,
            alpha=0.5,
            label="± 2 standard errors",
        )
    axes.axhline(one_eigenvalue, color=FAINT, linewidth=0.8, linestyle=":", label="one eigenvalue")
    axes.set_ylim(floor, 3 * float(y.max()))
    axes.set_xlim(float(x[0]), float(x[-1]))
    return floor


def _mark_eigenvalues(
    axes: Axes, report: SpectrumReport | CriticalPointReport, floor: float
) -> None:
    for end, colour, name in (
        (report.largest, LARGEST, "largest"),
        (report.smallest, SMALLEST, "smallest"),
    ):
        values, converged = end.values, end.converged
        for chosen, face, label in (
            (values[converged], colour, f"{name} eigenvalues"),
            (values[~converged], "none", f"{name}, not converged"),
        ):
            if len(chosen):
                axes.plot(
                    chosen.numpy(),
                    [floor * 1.5] * len(chosen),
                    linestyle="none",
                    marker="^",
                    markersize=7,
                    markerfacecolor=face,
                    markeredgecolor=colour,
                    label=label,
                )
