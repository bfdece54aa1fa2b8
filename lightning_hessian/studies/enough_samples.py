"""How many samples a spectrum should be measured on, from the errors of those it was."""

from __future__ import annotations

import math

from torch import Tensor

from lightning_hessian.records import SpectrumReport

MARGIN = 1.05
GROWTH = 8


def enough_samples(report: SpectrumReport, rtol: float) -> int:
    """How many bring the sampling errors of a report within a share of its numbers."""
    sampling = report.sampling
    if sampling is None or not len(report.largest.values):
        return report.num_samples
    trace = density = math.inf
    largest = _tolerance(rtol * abs(float(report.largest.values[0])))
    # without an error, more samples would not bring one, unless there are too few batches
    if report.trace is not None and math.isfinite(sampling.trace_error):
        trace = _tolerance(rtol * abs(report.trace.value))
    if report.density is not None and math.isfinite(sampling.density_distance):
        density = _tolerance(rtol * _extent(report.density.nodes))
    needed = sampling.required_samples(largest=largest, trace=trace, density=density)
    if needed <= report.num_samples:
        return needed
    # by the law with some room, but not by far at once: it is itself an estimate
    return min(math.ceil(MARGIN * needed), GROWTH * report.num_samples)


def _tolerance(value: float) -> float:
    """Of a number of zero any error is too large, which no number of samples would change."""
    return value if value > 0 else math.inf


def _extent(nodes: Tensor) -> float:
    """From the smallest eigenvalue to the largest, as far as the density shows them."""
    return float(nodes.max() - nodes.min())
