"""Reports as a table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from lightning_hessian.results import SpectrumReport

HEADINGS = {
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


def spectrum_table(reports: Sequence[SpectrumReport]) -> str:
    """One line a report; ``+-`` is a residual bound, of the trace a standard error.

    Args:
        reports: In the order of the lines.

    Returns:
        The table; notes and failures stand below their line, the checkpoint, if one is known, at
        the end of it.
    """
    lines = [" ".join(f"{name:>{width}}" for name, width in HEADINGS.items())]
    if any(report.ckpt_path for report in reports):
        lines[0] += "  checkpoint"
    for report in reports:
        path = f"  {report.ckpt_path}" if report.ckpt_path else ""
        if report.failure is not None:
            # seconds are known of each attempt to measure; without one, neither is the step
            step = NOTHING if math.isnan(report.seconds) else str(report.global_step)
            lines += [f"{step:>6} no numbers{path}", f"{'':>6} {report.failure}"]
            continue
        cells = zip(_cells(report), HEADINGS.values(), strict=True)
        lines.append(" ".join(f"{cell:>{width}}" for cell, width in cells) + path)
        lines += [f"{'':>6} note: {note}" for note in report.notes]
    return "\n".join(lines)


def _cells(report: SpectrumReport) -> list[str]:
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


def _first(values: Tensor, bounds: Tensor) -> str:
    return _with_error(float(values[0]), float(bounds[0])) if len(values) else NOTHING


def _with_error(value: float, error: float) -> str:
    """As many digits as the error leaves, at most six."""
    if math.isnan(value):
        return NOTHING
    if math.isnan(error):
        return f"{value:.6g}"
    digits = 6 if error <= 0 else min(6, max(0, 1 - math.floor(math.log10(error))))
    return f"{value:.{digits}f} +- {error:.1g}"
