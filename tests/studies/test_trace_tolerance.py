"""A trace beyond its tolerance is noted with its reason, and one within is not."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from lightning_hessian import HessianSpectrum, Krylov
from lightning_hessian.records import Note, ProductQuality
from lightning_hessian.studies.trace_tolerance import trace_notes
from tests.helpers.fitting import Classifier, classification_data, loader, trainer
from tests.helpers.reports import eigenvalues_at, report_at, trace_at
from tests.writers.test_scalars import sampled

SOLVER = Krylov(trace_rtol=0.05, sampling_rtol=0.1)


def texts(*, has_allowance: bool = False, solver: Krylov = SOLVER, **changes: Any) -> list[str]:
    report = report_at(**({"density": None} | changes))
    return [str(note) for note in trace_notes(report, solver, has_allowance=has_allowance)]


def test_a_trace_within_its_tolerance_has_no_note() -> None:
    # 5 % of 12 are 0.6
    assert texts(trace=trace_at(12.0, 0.59)) == []
    assert texts(trace=None) == []


def test_one_beyond_says_what_its_probes_were_paid_by() -> None:
    beyond = {"trace": trace_at(12.0, 0.61)}
    (by_bound,), (by_share,) = texts(**beyond), texts(**beyond, has_allowance=True)
    assert "did not reach trace_rtol=0.05, for the few probes that `max_hvps=200`" in by_bound
    assert "did not reach trace_rtol=0.05, for the few probes that `max_overhead`" in by_share
    assert texts(**beyond, solver=replace(SOLVER, trace_rtol=0.1)) == []


def test_an_unknown_error_is_beyond_any_tolerance() -> None:
    assert len(texts(trace=trace_at(12.0, float("nan")))) == 1


def test_one_off_by_its_products_says_so() -> None:
    products = ProductQuality(method="finite_difference", trace_error=0.9)
    (text,) = texts(trace=trace_at(12.0, 1.0), products=products)
    assert "for differences of gradients" in text


def test_the_part_of_the_samples_has_a_tolerance_of_its_own() -> None:
    # a trace error of 1.5 over samples, and next to nothing by probes
    (text,) = texts(trace=trace_at(12.0, 1.51), sampling=sampled())
    assert "did not reach sampling_rtol=0.1, for the 26 samples, in 4 batches" in text
    assert texts(trace=trace_at(16.0, 1.51), sampling=sampled()) == []


def test_a_trace_that_cancels_is_held_against_the_magnitudes() -> None:
    around = {"largest": eigenvalues_at([10.0], [0.1]), "smallest": eigenvalues_at([-10.0], [0.1])}
    assert texts(trace=trace_at(0.0, 0.9), **around) == []
    assert len(texts(trace=trace_at(0.0, 1.1), **around)) == 1
    # 1000 eigenvalues, a tenth each at -1 and 4: magnitudes of 500
    assert texts(trace=trace_at(0.0, 24.0), density=report_at().density) == []


def test_what_is_said_already_is_not_said_twice() -> None:
    said = (Note("trace-not-reached", "the trace did not reach its tolerance."),)
    assert texts(trace=trace_at(12.0, 3.0), notes=said) == []


def test_a_fit_of_few_products_holds_its_traces_against_the_tolerance_it_was_given() -> None:
    for tolerance in (1e-4, 0.25):
        callback = HessianSpectrum(
            solver=Krylov(trace_rtol=tolerance, sampling_rtol=0.999),
            max_overhead=0.9,
            on_error="raise",
        )
        data = loader(classification_data(1000), batch_size=100, shuffle=True)
        trainer(callback, max_epochs=3).fit(Classifier(), data)
        reports = [r for r in callback.reports if r.trace is not None and r.sampling is not None]
        assert len(reports) > 1
        for report in reports:
            trace, of_samples = report.trace, report.sampling.trace_error
            probes = math.sqrt(trace.standard_error**2 - of_samples**2)
            is_beyond = probes > tolerance * max(trace.value, float(report.largest.values.sum()))
            assert is_beyond or tolerance > 0.1
            assert is_beyond == any(note.code == "trace-not-reached" for note in report.notes)
            assert trace.converged == (not is_beyond)
