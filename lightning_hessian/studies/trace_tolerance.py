"""Is the trace of a report as exact as it was asked to be, and if not, why?"""

from __future__ import annotations

import math

from lightning_hessian.options import Krylov
from lightning_hessian.records import Note, SpectrumReport

CODE = "trace-not-reached"


def trace_notes(report: SpectrumReport, solver: Krylov, *, has_allowance: bool) -> tuple[Note, ...]:
    """What to say of a trace whose standard error is beyond its tolerances.

    The part of the samples is held against ``sampling_rtol``, the rest against ``trace_rtol``, both
    relative to the larger of ``|tr H|`` and what is known of the sum of the eigenvalues'
    magnitudes: a trace may cancel to nothing.

    Args:
        report: With all errors in its trace.
        solver: The tolerances.
        has_allowance: Whether ``max_overhead`` bounded the products, and not ``max_hvps``.

    Returns:
        At most one; none where the report says so already.
    """
    trace, sampling = report.trace, report.sampling
    if trace is None or any(note.code == CODE for note in report.notes):
        return ()
    of_samples = 0.0 if sampling is None else sampling.trace_error
    of_samples = of_samples if math.isfinite(of_samples) else 0.0
    rest = math.sqrt(max(trace.standard_error**2 - of_samples**2, 0.0))
    scale = max(abs(trace.value), _magnitudes(report))
    reasons = []
    if not rest <= solver.trace_rtol * scale:
        bound = "`max_overhead`" if has_allowance else f"`max_hvps={solver.max_hvps}`"
        products = report.products.trace_error > rest / math.sqrt(2)
        why = "differences of gradients" if products else f"the few probes that {bound} pays for"
        reasons.append(f"trace_rtol={solver.trace_rtol:g}, for {why}")
    if sampling is not None and of_samples > solver.sampling_rtol * scale:
        samples = f"the {report.num_samples:,} samples, in {sampling.num_batches} batches"
        reasons.append(f"sampling_rtol={solver.sampling_rtol:g}, for {samples}")
    if not reasons:
        return ()
    text = f"the trace did not reach {', nor '.join(reasons)}: its interval is wider."
    return (Note(CODE, text),)


def _magnitudes(report: SpectrumReport) -> float:
    """Sum of the magnitudes of the eigenvalues, as far as the report knows them."""
    if report.density is not None:
        density = report.density
        return report.num_parameters * float(density.weights @ density.nodes.abs())
    ends = (report.largest.values, report.smallest.values)
    return float(sum(values.abs().sum() for values in ends))
