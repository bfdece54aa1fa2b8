"""The numbers of a sweep as a report, with the products' and the samples' errors in them."""

from __future__ import annotations

import math
from dataclasses import replace

from lightning_hessian.records import (
    Estimate,
    ProductQuality,
    SamplingError,
    Spectrum,
    SpectrumReport,
    TraceEstimate,
)
from lightning_hessian.studies.batch_statistics import quantile


def report_of(spectrum: Spectrum, products: ProductQuality, size: int) -> SpectrumReport:
    """A spectrum's numbers in a report, with the products' error where it is not in them yet."""
    return SpectrumReport(
        largest=spectrum.largest,
        smallest=spectrum.smallest,
        trace=None if spectrum.trace is None else _widened(spectrum.trace, products.trace_error),
        frobenius_norm=_frobenius_norm(spectrum.trace, products.error * math.sqrt(size)),
        density=spectrum.density,
        negative_mass=spectrum.negative_mass,
        products=products,
        num_hvps=spectrum.num_hvps,
        notes=(*spectrum.notes, *products.notes),
    )


def with_sampling(
    trace: TraceEstimate | None, sampling: SamplingError | None
) -> TraceEstimate | None:
    """The trace with the error of the samples in it, beside that of the probes."""
    if trace is None or sampling is None or not math.isfinite(sampling.trace_error):
        return trace
    error = sampling.trace_error
    margin = quantile(sampling.degrees_of_freedom + 1) * error if error > 0 else 0.0
    lower, upper = (math.hypot(end - trace.value, margin) for end in trace.interval)
    return replace(
        trace,
        standard_error=math.hypot(trace.standard_error, error),
        interval=(trace.value - lower, trace.value + upper),
    )


def _frobenius_norm(trace: TraceEstimate | None, error: float) -> Estimate | None:
    """From the probes of the trace; products off by ``e`` move it by at most ``e sqrt(n)``."""
    if trace is None or trace.squares is None:
        return None
    norm = trace.squares.root
    return replace(norm, standard_error=math.hypot(norm.standard_error, error))


def _widened(trace: TraceEstimate, error: float) -> TraceEstimate:
    """The bounds have the products' error in them, the trace's probes have not."""
    lower, upper = trace.interval
    return replace(
        trace,
        standard_error=math.hypot(trace.standard_error, error),
        interval=(lower - error, upper + error),
        blocks=None,
        squares=None,
    )
