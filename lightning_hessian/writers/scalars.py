"""The numbers of a report as named scalars, for loggers of every kind."""

from __future__ import annotations

import math

from lightning_hessian.results import SpectrumReport


def spectrum_scalars(report: SpectrumReport, *, prefix: str) -> dict[str, float]:
    """Name the numbers of a report; what was not measured is left out.

    Args:
        report: To be logged.
        prefix: First part of each tag.

    Returns:
        Tag to value; for a failed measurement only ``failed`` (1) and ``seconds``.
    """
    scalars = {"failed": float(report.failure is not None), "seconds": report.seconds}
    if report.failure is None:
        scalars |= _eigenvalues(report) | {
            "trace": report.trace,
            "trace_standard_error": report.trace_standard_error,
            "trace_lower": report.trace_interval[0],
            "trace_upper": report.trace_interval[1],
            "negative_fraction": report.negative_fraction,
            "negative_fraction_lower": report.negative_fraction_bracket[0],
            "negative_fraction_upper": report.negative_fraction_bracket[1],
            "negative_threshold": report.negative_threshold,
            "loss": report.loss,
            "gradient_norm": report.gradient_norm,
            "num_hvps": float(report.num_hvps),
        }
    if report.failure is None and report.hvp != "exact":
        scalars["hvp_error"] = report.hvp_error
    return {f"{prefix}/{tag}": value for tag, value in scalars.items() if math.isfinite(value)}


def _eigenvalues(report: SpectrumReport) -> dict[str, float]:
    named = {}
    for stem, values, bounds in (
        ("eig", report.eigenvalues, report.residual_bounds),
        ("eig_min", report.smallest_eigenvalues, report.smallest_residual_bounds),
    ):
        for index, (value, bound) in enumerate(zip(values, bounds, strict=True), start=1):
            named[f"{stem}_{index}"] = float(value)
            named[f"{stem}_{index}_bound"] = float(bound)
    return named
