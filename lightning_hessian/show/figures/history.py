"""How the measured numbers went over training, as a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_hessian.records import SpectrumReport, TraceEstimate
from lightning_hessian.show.figures.course import course_figure, without_failures
from lightning_hessian.show.figures.frame import ABOVE_POWER, Frame, set_title
from lightning_hessian.show.figures.spectrum import describe
from lightning_hessian.show.figures.style import (
    BAND,
    CURVE,
    FAINT,
    LARGEST,
    SECOND,
    SMALLEST,
    THIRD,
)

FRAME = Frame(widths=(2.65, 2.65, 2.65), height=2.4, top=0.5)
UNKNOWN = TraceEstimate(
    value=math.nan, standard_error=math.nan, interval=(math.nan, math.nan), num_probes=0
)


def history_figure(reports: Sequence[SpectrumReport]) -> Figure:
    """Draw eigenvalues, trace and loss against the step, with their error bars.

    Args:
        reports: In order; failed ones are left out.

    Returns:
        The figure.

    Raises:
        ValueError: If no report holds numbers.
    """
    good = without_failures(reports)
    title = f"Hessian of the training loss: {describe(good[-1])}"
    panels = [_draw_eigenvalues, _draw_trace, _draw_loss]
    return course_figure(good, panels, frame=FRAME, title=title)


def _draw_eigenvalues(axes: Axes, reports: Sequence[SpectrumReport]) -> None:
    steps = [r.step for r in reports]
    largest = [r.largest for r in reports]
    smallest = [r.smallest for r in reports]
    for ends, colour in ((largest, LARGEST), (smallest, SMALLEST)):
        for index in range(min(len(end.values) for end in ends)):
            axes.errorbar(
                steps,
                [float(end.values[index]) for end in ends],
                yerr=[float(end.residual_bounds[index]) for end in ends],
                color=colour,
                alpha=max(0.3, 1 - 0.15 * index),
                marker=".",
                capsize=2,
                linewidth=1.2,
            )
    axes.axhline(0, color=FAINT, linewidth=0.8)
    edges = [math.nan if r.edge is None else r.edge.largest_eigenvalue for r in reports]
    if any(map(math.isfinite, edges)):
        axes.plot(steps, edges, color=SECOND, linestyle="--", linewidth=1, label="optimiser's edge")
    _draw_batch_sharpness(axes, reports)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=7)
    set_title(axes, "largest and smallest eigenvalues", pad=ABOVE_POWER)


def _draw_batch_sharpness(axes: Axes, reports: Sequence[SpectrumReport]) -> None:
    """Both means of it, where it was measured."""
    measured = [(r.step, r.batch_sharpness) for r in reports if r.batch_sharpness is not None]
    if not measured:
        return
    steps = [step for step, _ in measured]
    means = [found.mean_of_ratios for _, found in measured]
    ratios = [found.ratio_of_means for _, found in measured]
    kinds = ((means, "batch sharpness", "."), (ratios, "as a ratio of means", "x"))
    for estimates, label, marker in kinds:
        axes.errorbar(
            steps,
            [estimate.value for estimate in estimates],
            yerr=[estimate.standard_error for estimate in estimates],
            color=THIRD,
            alpha=1.0 if estimates is means else 0.5,
            marker=marker,
            capsize=2,
            linewidth=1.2,
            label=label,
        )


def _draw_trace(axes: Axes, reports: Sequence[SpectrumReport]) -> None:
    steps = [r.step for r in reports]
    traces = [UNKNOWN if r.trace is None else r.trace for r in reports]
    axes.plot(steps, [trace.value for trace in traces], color=CURVE, marker=".")
    axes.fill_between(
        steps,
        [trace.interval[0] for trace in traces],
        [trace.interval[1] for trace in traces],
        color=BAND,
        alpha=0.5,
    )
    set_title(axes, "trace, 95 % interval", pad=ABOVE_POWER)


def _draw_loss(axes: Axes, reports: Sequence[SpectrumReport]) -> None:
    axes.plot([r.step for r in reports], [r.loss for r in reports], color=CURVE, marker=".")
    set_title(axes, "loss on the frozen samples", pad=ABOVE_POWER)
