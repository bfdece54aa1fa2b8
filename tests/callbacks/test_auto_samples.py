"""``num_samples="auto"``: as many samples as the sampling errors call for, and no more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from lightning_hessian import HessianSpectrum, Krylov, Loss, LossDifference, SpectrumReport
from lightning_hessian.fit import frozen_sample
from lightning_hessian.options import SpectrumOptions
from lightning_hessian.records import SamplingError
from lightning_hessian.studies import SpectrumStudy
from lightning_hessian.studies import spectrum as spectrum_measurement
from lightning_hessian.studies.enough_samples import GROWTH, MARGIN
from tests.helpers.fitting import classification_data, loader, trainer
from tests.helpers.networks import Supervised, dense_hessian, mlp
from tests.helpers.reports import eigenvalues_at, trace_at

START = 32
POPULATION = 300
DATA = classification_data(POPULATION)


@pytest.fixture(autouse=True)
def a_small_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen_sample, "USUAL", START)


def network() -> Supervised:
    torch.manual_seed(0)
    return Supervised(mlp(4, 5, 3, activation=nn.Tanh), lr=0.01)


def grown(data: Any = DATA, **options: Any) -> tuple[HessianSpectrum, list[SpectrumReport]]:
    callback = HessianSpectrum(
        **{
            "num_samples": "auto",
            "num_eigenvalues": 2,
            "loss": Loss(batch_size=8),
            "max_overhead": None,
            "on_error": "raise",
        }
        | options
    )
    trainer(callback, max_steps=1).fit(network(), loader(data))
    return callback, callback.reports


def growths(report: SpectrumReport) -> list[int]:
    """The numbers of samples that the note tells of; none where nothing was made larger."""
    notes = [n for n in report.notes if n.startswith("The sample was made larger")]
    if not notes:
        return []
    (note,) = notes
    assert note.endswith(" samples.")
    return [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\d", note)]


def within(sampling: SamplingError, report: SpectrumReport, rtol: float) -> bool:
    assert report.density is not None
    extent = float(report.density.nodes.max() - report.density.nodes.min())
    return (
        sampling.largest_margin <= rtol * float(report.largest.values[0])
        and sampling.trace_error <= rtol * abs(report.trace.value)
        and sampling.density_distance <= rtol * extent
    )


def test_the_sample_grows_until_all_sampling_errors_are_within_the_tolerance() -> None:
    _, (first, last) = grown(solver=Krylov(sampling_rtol=0.25))
    numbers = growths(first)
    assert numbers[0] == START
    assert numbers[-1] == first.num_samples
    assert START < first.num_samples < POPULATION
    assert first.sampling is not None
    assert within(first.sampling, first, 0.25)
    # the next measurement begins with as many
    assert last.num_samples >= first.num_samples
    # and the truth is where the errors say
    truth = torch.linalg.eigvalsh(dense_hessian(network(), DATA))
    low, high = first.sampling.largest_interval
    assert low <= float(truth[-1]) <= high
    assert abs(first.trace.value - float(truth.sum())) < 4 * first.sampling.trace_error + (
        4 * first.trace.standard_error
    )


def test_nothing_grows_where_the_first_sample_is_enough() -> None:
    for report in grown(solver=Krylov(sampling_rtol=0.9))[1]:
        assert report.num_samples == START
        assert growths(report) == []


def test_the_population_is_the_limit() -> None:
    _, (first, last) = grown(classification_data(90), solver=Krylov(sampling_rtol=1e-3))
    assert growths(first) == [START, 90]
    assert first.num_samples == last.num_samples == 90
    assert first.data == "all 90 samples of the training set (TensorDataset)"
    assert growths(last) == []


def test_it_grows_by_no_more_than_a_factor_at_once() -> None:
    (first, _) = grown(solver=Krylov(sampling_rtol=1e-3))[1]
    assert growths(first) == [START, GROWTH * START, POPULATION]


def test_the_number_asked_for_follows_the_law_with_some_room() -> None:
    def of(largest_margin: float, *, grows: bool = True) -> int:
        none = torch.zeros(1, dtype=torch.float64)
        sampling = SamplingError(
            population=None,
            num_samples=100,
            num_batches=10,
            degrees_of_freedom=9,
            num_draws=0,
            eigenvalue_errors=none,
            eigenvalue_biases=none,
            smallest_errors=none,
            smallest_biases=none,
            largest_interval=(10 - largest_margin, 10 + largest_margin),
            trace_error=0.0,
            density_distance=0.0,
            num_hvps=0,
        )
        report = SpectrumReport(
            largest=eigenvalues_at([10.0], [0.0]),
            trace=trace_at(20.0),
            num_samples=100,
            sampling=sampling,
        )
        options = SpectrumOptions(solver=Krylov(sampling_rtol=0.05), grows=grows)
        return SpectrumStudy(options, seed=0).required_samples(report)

    # an error of twice the tolerance, 0.5, needs four times as many, and 5 % more
    assert of(1.0) == round(4 * MARGIN * 100)
    assert of(0.5) == 100
    assert of(50.0) == GROWTH * 100
    assert of(1.0, grows=False) == 100


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(list(DATA)[:64])


def test_a_stream_is_measured_on_what_was_captured() -> None:
    callback = HessianSpectrum(
        num_samples="auto", max_overhead=None, on_error="raise", solver=Krylov(sampling_rtol=1e-3)
    )
    trainer(callback, max_epochs=1).fit(network(), loader(Stream()))
    assert [report.num_samples for report in callback.reports] == [START]
    assert growths(callback.reports[0]) == []


def test_overlaps_are_with_the_report_before_and_not_with_a_smaller_sample() -> None:
    _, (first, last) = grown(solver=Krylov(sampling_rtol=0.25), overlaps=True)
    assert len(growths(first)) > 1
    assert first.overlap is None
    assert len(last.overlap.cosines) == 2
    # one small step later
    assert last.overlap.subspace > 0.9


def test_loss_differences_have_no_sampling_error_to_go_by() -> None:
    reason = "`num_samples` of `LossDifference` must be a whole .* or 'all', got 'auto'"
    with pytest.raises(ValueError, match=reason):
        LossDifference(num_samples="auto")  # type: ignore[arg-type]


def test_the_population_is_the_training_set() -> None:
    _, reports = grown(num_samples=40)
    sampling = reports[0].sampling
    assert sampling is not None
    assert (sampling.num_samples, sampling.population) == (40, POPULATION)


def test_sampling_errors_cost_a_product_for_each_vector_and_one_for_a_probe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[int, SamplingError]] = []
    original = spectrum_measurement.sampling_error

    def keep(loss: Any, vectors: Tensor, **options: Any) -> SamplingError:
        found = original(loss, vectors, **options)
        seen.append((vectors.shape[1], found))
        return found

    monkeypatch.setattr(spectrum_measurement, "sampling_error", keep)
    _, reports = grown(
        num_samples=40, solver=Krylov(max_hvps=24), loss=Loss(batch_size=8, precision=64)
    )
    for report, (count, error) in zip(reports, seen, strict=True):
        assert error.num_hvps == count + 1
        # the trace's interval holds both: that of its probes, and that of the samples
        assert report.trace.standard_error > error.trace_error > 0
        assert report.sampling == error
