"""Reports as a table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from torch import Tensor

from lightning_hessian.records import LossDifferenceReport, Report, SpectrumReport
from lightning_hessian.statistics import root_with_error

AnyReport = TypeVar("AnyReport", bound=Report)
SPECTRUM = {
    "step": 6,
    "loss": 8,
    "largest eigenvalue": 21,
    "smallest eigenvalue": 22,
    "trace": 17,
    "negative share": 16,
    "HVPs": 5,
    "seconds": 8,
}
NOTHING = "-"
SMALL = 1e-3
"""Values below it are written by their power of ten, where their error leaves them digits."""


def spectrum_table(reports: Sequence[SpectrumReport]) -> str:
    """One line a report; ``+-`` is a residual bound, of the trace a standard error.

    Args:
        reports: In the order of the lines.

    Returns:
        The table; notes and failures stand below their line, the checkpoint, if one is known, at
        the end of it.
    """
    return _table(reports, SPECTRUM, _spectrum_cells)


def loss_difference_table(reports: Sequence[LossDifferenceReport]) -> str:
    """One line a report; ``+-`` is a standard error, the interval of a size is one of 95 %.

    The difference is the mean absolute one at the largest sample size, where the last sample is
    added; ``k*`` is the size from which on it is below the first threshold.

    Args:
        reports: In the order of the lines.

    Returns:
        The table; notes and failures stand below their line, the checkpoint, if one is known, at
        the end of it.
    """
    thresholds = [report.thresholds[0] for report in reports if report.thresholds]
    headings = {
        "step": 6,
        "loss": 8,
        "difference": 21,
        "S": 19,
        "MAD": 19,
        f"k* at {thresholds[0]:g}" if thresholds else "k*": 29,
        "gap": 19,
        "seconds": 8,
    }
    return _table(reports, headings, _loss_difference_cells)


def _table(
    reports: Sequence[AnyReport],
    headings: Mapping[str, int],
    cells_of: Callable[[AnyReport], list[str]],
) -> str:
    lines = [" ".join(f"{name:>{width}}" for name, width in headings.items())]
    if any(report.ckpt_path for report in reports):
        lines[0] += "  checkpoint"
    for report in reports:
        path = f"  {report.ckpt_path}" if report.ckpt_path else ""
        if report.failure is not None:
            # seconds are known of each attempt to measure; without one, neither is the step
            step = NOTHING if math.isnan(report.seconds) else str(report.global_step)
            lines += [f"{step:>6} no numbers{path}", f"{'':>6} {report.failure}"]
            continue
        cells = zip(cells_of(report), headings.values(), strict=True)
        lines.append(" ".join(f"{cell:>{width}}" for cell, width in cells) + path)
        lines += [f"{'':>6} note: {note}" for note in report.notes]
    return "\n".join(lines)


def _spectrum_cells(report: SpectrumReport) -> list[str]:
    low, high = report.negative_fraction_bracket
    return [
        str(report.global_step),
        f"{report.loss:.4f}",
        _first(report.eigenvalues, report.residual_bounds),
        _first(report.smallest_eigenvalues, report.smallest_residual_bounds),
        _with_error(report.trace, report.trace_standard_error),
        NOTHING if math.isnan(low) else f"{low:.3f} to {high:.3f}",
        str(report.num_hvps),
        f"{report.seconds:.2f}",
    ]


def _loss_difference_cells(report: LossDifferenceReport) -> list[str]:
    held_out = report.held_out
    return [
        str(report.global_step),
        f"{report.loss:.4f}",
        _last(report.mean_abs, report.mean_abs_standard_error),
        _with_error(*root_with_error(report.variance, report.variance_standard_error)),
        _with_error(report.mean_absolute_deviation, report.mean_absolute_deviation_standard_error),
        _size(report),
        _with_error(held_out.gap, held_out.gap_standard_error) if held_out else NOTHING,
        f"{report.seconds:.2f}",
    ]


def _size(report: LossDifferenceReport) -> str:
    if not report.thresholds:
        return NOTHING
    needed = report.required_sample_size(report.thresholds[0])
    return f"{needed.size:,} ({needed.lower:,} to {needed.upper:,})"


def _last(values: Tensor, errors: Tensor) -> str:
    return _with_error(float(values[-1]), float(errors[-1])) if len(values) else NOTHING


def _first(values: Tensor, bounds: Tensor) -> str:
    return _with_error(float(values[0]), float(bounds[0])) if len(values) else NOTHING


def _with_error(value: float, error: float) -> str:
    """As many digits as the error leaves, at most six, counted from the first of a small value."""
    if math.isnan(value):
        return NOTHING
    if math.isnan(error):
        return f"{value:.6g}"
    digits = 6 if error <= 0 else max(0, 1 - math.floor(math.log10(error)))
    if digits > 6 and 0 < abs(value) < SMALL:
        digits = min(6, max(0, digits + math.floor(math.log10(abs(value)))))
        return f"{value:.{digits}e} +- {error:.1g}"
    digits = min(6, digits)
    return f"{value:.{digits}f} +- {error:.1g}"
