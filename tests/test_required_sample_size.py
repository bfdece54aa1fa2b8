"""From how many samples on: the report's answer, against searches over the measured curve."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightning_hessian.records import (
    Estimate,
    HeldOutLosses,
    LossDifferenceReport,
    SampleSizeRule,
)
from lightning_hessian.show import read_sidecar, write_sidecar
from lightning_hessian.statistics import rms_difference, sample_size_uniform
from lightning_hessian.studies import OrderStatistics, order_statistics
from tests.helpers.orders import POPULATIONS, exponential_mean_distance

RULES: list[SampleSizeRule] = ["rms", "mean_abs", "uniform"]


def _statistics(losses: Tensor, **options: list[int]) -> OrderStatistics:
    return order_statistics(losses, generator=torch.Generator().manual_seed(0), **options)


def _report(
    losses: Tensor, held_out: HeldOutLosses | None = None, **options: list[int]
) -> LossDifferenceReport:
    found = _statistics(losses, **options)
    return LossDifferenceReport(
        num_samples=len(losses),
        held_out=held_out,
        differences=found.differences,
        spread=found.spread,
    )


def _exponential(count: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return POPULATIONS["exponential"].draw(count, generator=generator)


def _held_out(losses: Tensor) -> HeldOutLosses:
    found = _statistics(losses, sample_sizes=[1])
    return HeldOutLosses(
        loss=float(losses.mean()),
        spread=found.spread,
        gap=Estimate(value=0.1, standard_error=0.01),
        num_samples=len(losses),
        data="the validation data",
    )


def test_size_by_mean_absolute_difference_is_where_the_measured_curve_falls_below() -> None:
    losses = _exponential(120)
    at_every_size = _report(losses, sample_sizes=list(range(1, 120)))
    at_forty = _report(losses)
    for threshold in (0.3, 0.05, 0.02):
        below = at_every_size.differences.sample_sizes[
            at_every_size.differences.mean_abs <= threshold
        ]
        exact = int(below[0])
        found = at_every_size.required_sample_size(threshold)
        assert found.size == exact
        # joined between forty of them: A_k is smooth, and its estimate good to 0.2 %
        joined = at_forty.required_sample_size(threshold).size
        assert abs(joined - exact) <= max(1, 0.005 * exact)
        # the population's own: 2 (1 + 1/k)^-k / (k + 1)
        truth = next(
            k for k in range(1, 999) if exponential_mean_distance(k) / (k + 1) <= threshold
        )
        assert found.lower <= truth <= found.upper


def test_size_between_few_given_sizes_is_never_far_off() -> None:
    losses = _exponential(3000)
    threshold = 1e-2
    exact = _report(losses).required_sample_size(threshold).size
    sparse = _report(losses, sample_sizes=[30]).required_sample_size(threshold).size
    assert abs(sparse - exact) <= 0.02 * exact


@pytest.mark.parametrize("threshold", [0.5, 0.03, 1e-3, 1e-6])
def test_size_by_root_mean_square_is_the_law_inside_and_past_the_samples(threshold: float) -> None:
    losses = _exponential(500)
    found = _report(losses).required_sample_size(threshold, "rms")
    variance = float(losses.var())
    assert rms_difference(variance, found.size) <= threshold
    assert found.size == 1 or rms_difference(variance, found.size - 1) > threshold
    assert found.is_extrapolated == (found.size >= 500)
    assert found.lower <= found.size <= found.upper


def test_size_past_the_samples_is_the_deviation_over_the_threshold() -> None:
    losses = _exponential(500)
    found = _report(losses).required_sample_size(1e-4)
    deviation = float((losses - losses.mean()).abs().mean())
    assert found.size == math.ceil(deviation / 1e-4) - 1
    assert found.is_extrapolated
    error = _statistics(losses).spread.mean_absolute_deviation.standard_error
    assert found.upper - found.size == pytest.approx(1.96 * error / 1e-4, rel=1e-3)


def test_uniform_size_is_of_the_samples_until_the_population_needs_more() -> None:
    losses = _exponential(500)
    report, variance = _report(losses), float(losses.var())
    inside = report.required_sample_size(0.3, "uniform", confidence=0.9)
    assert inside.size == sample_size_uniform(variance, 0.3, 0.1, 500)
    assert not inside.is_extrapolated
    past = report.required_sample_size(0.03, "uniform", confidence=0.9)
    assert past.size == sample_size_uniform(variance, 0.03, 0.1)
    assert past.is_extrapolated


@pytest.mark.parametrize("rule", RULES)
def test_interval_of_the_size_covers_the_population_s(rule: SampleSizeRule) -> None:
    threshold = {"rms": 1e-3, "mean_abs": 1e-3, "uniform": 0.05}[rule]
    # S = 1, MAD = 2 / e, and 1 / (0.05 * 0.05^2)
    truth = {"rms": 1000, "mean_abs": 2 / math.e * 1000, "uniform": 8000}[rule]
    hits = 0
    for seed in range(40):
        found = _report(_exponential(400, seed), sample_sizes=[1]).required_sample_size(
            threshold, rule
        )
        hits += found.lower <= truth <= found.upper
    # 93 % of the variance, 94 % of MAD (see the coverage tests), four deviations of 40 draws
    assert hits >= 0.93 * 40 - 4 * math.sqrt(40 * 0.93 * 0.07)


@pytest.mark.parametrize("rule", RULES)
def test_a_smaller_threshold_never_needs_fewer_samples(rule: SampleSizeRule) -> None:
    held_out = _held_out(2 * _exponential(200, 2))
    report = _report(_exponential(300), held_out, sample_sizes=[1, 2, 5, 20, 100])
    found = [report.required_sample_size(0.7**n, rule) for n in range(40)]
    for lists in ([f.size for f in found], [f.lower for f in found], [f.upper for f in found]):
        assert lists == sorted(lists)
    assert all(f.lower <= f.size <= f.upper for f in found)


def test_further_samples_are_like_the_held_out_ones() -> None:
    losses, unseen = _exponential(500), 3 * _exponential(200, 2)
    held_out = _held_out(unseen)
    alone = _report(losses, sample_sizes=[499])
    report = dataclasses.replace(alone, held_out=held_out)
    deviation = float((unseen - unseen.mean()).abs().mean())
    found = report.required_sample_size(1e-4)
    assert found.size == math.ceil(deviation / 1e-4) - 1
    assert found.assumption == "all samples are like the 200 held-out ones"
    # trained-on samples would do with 367 of 500, but a new one would move the loss too much again
    inside = alone.required_sample_size(2e-3).size
    assert inside < 500
    assert report.required_sample_size(2e-3).size == math.ceil(deviation / 2e-3) - 1
    # held-out samples that need fewer than there are say nothing about those
    smaller = dataclasses.replace(
        held_out.spread, mean_absolute_deviation=Estimate(value=deviation / 30, standard_error=0.0)
    )
    small = dataclasses.replace(held_out, spread=smaller)
    easier = dataclasses.replace(alone, held_out=small)
    assert easier.required_sample_size(2e-3).size == inside
    assert easier.sentence(2e-3).endswith("if further samples are like the 200 held-out ones")
    assert easier.required_sample_size(1e-3).size == 500


def test_equal_losses_need_one_sample() -> None:
    report = _report(torch.full((50,), 0.3, dtype=torch.float64))
    for rule in RULES:
        found = report.required_sample_size(1e-9, rule)
        assert (found.lower, found.size, found.upper) == (1, 1, 1)
    assert "moves the loss by 0.0e+00; below 1e-09 from about 1 on" in report.sentence(1e-9)


def test_sentence_says_difference_size_and_assumption() -> None:
    report = _report(_exponential(10_000))
    needed = report.required_sample_size(1e-5)
    text = report.sentence(1e-5)
    number = r"(\d[\d,]*)"
    pattern = (
        r"with 10,000 samples one more sample moves the loss by (\S+) \+- (\S+); below 1e-05 from "
        rf"about {number} on \(between {number} and {number}\), if further samples are like these"
    )
    match = re.fullmatch(pattern, text)
    assert match, text
    value, error = float(match[1]), float(match[2])
    deviation = report.spread.mean_absolute_deviation.value / 10_001
    stated = report.spread.mean_absolute_deviation.standard_error / 10_001
    # the error has one digit, and the value is given to it
    assert error == pytest.approx(stated, rel=0.5)
    assert abs(value - deviation) <= error / 2
    told = [int(match[i].replace(",", "")) for i in (3, 4, 5)]
    width = needed.upper - needed.lower
    for number_told, exact in zip(told, (needed.size, needed.lower, needed.upper), strict=True):
        assert abs(number_told - exact) <= width / 4


def test_sentence_of_held_out_losses_is_about_them() -> None:
    report = _report(_exponential(100), _held_out(2 * _exponential(1000, 2)))
    text = report.sentence(1e-3)
    assert text.endswith("if all samples are like the 1,000 held-out ones")
    assert re.search(r"moves the loss by 1\.4\d*e-02", text)  # 4 / e / 101


def test_a_gap_to_the_held_out_losses_counts() -> None:
    # trained to nearly nothing; what is unseen is far away and all alike
    losses, unseen = 5e-4 * _exponential(1000), 3 + 0.1 * _exponential(500, 2)
    distance = float((unseen - losses.mean()).abs().mean())
    held_out = dataclasses.replace(
        _held_out(unseen),
        gap=Estimate(value=float(unseen.mean() - losses.mean()), standard_error=0.01),
        mean_distance=Estimate(value=distance, standard_error=0.01),
    )
    report = _report(losses, held_out)
    assert re.search(r"moves the loss by 3\.09\d*e-03 ", report.sentence(1e-3))
    found = report.required_sample_size(1e-3)
    assert found.size == math.ceil(distance / 1e-3) - 1
    assert found.assumption == "further samples are like the 500 held-out ones"
    by_rms = report.required_sample_size(1e-3, rule="rms").size
    assert by_rms == pytest.approx(
        math.hypot(float(unseen.std()), held_out.gap.value) / 1e-3, rel=1e-3
    )


def test_a_size_of_exactly_all_samples_is_that_of_further_ones() -> None:
    losses = _exponential(20)
    report = _report(losses, _held_out(3 * losses))
    # at k = 20 the root mean square is a 20.494th of the deviation
    threshold = float(3 * losses.std()) / 20.49
    assert _report(losses).required_sample_size(threshold, rule="rms").size < 10
    assert report.required_sample_size(threshold, rule="rms").size == 20


@pytest.mark.parametrize("threshold", [0.0, -1.0, math.nan, math.inf])
def test_a_threshold_that_is_not_positive_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="`threshold` must be positive and finite, got"):
        _report(_exponential(9)).required_sample_size(threshold)


def test_unknown_rules_and_confidences_are_refused() -> None:
    report = _report(_exponential(9))
    with pytest.raises(ValueError, match="`rule` must be 'rms', 'mean_abs' or 'uniform', got 'x'"):
        report.required_sample_size(0.1, "x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`confidence` must lie between 0 and 1, got 1"):
        report.required_sample_size(0.1, confidence=1)


def test_a_report_without_numbers_tells_no_size() -> None:
    with pytest.raises(ValueError, match="holds no loss statistics to tell a sample size from: no"):
        LossDifferenceReport(failure="no losses").required_sample_size(0.1)


def test_two_samples_tell_a_size_without_an_interval() -> None:
    found = _report(torch.tensor([0.0, 1.0])).required_sample_size(0.01)
    assert found.lower == found.size == found.upper == 49


def test_a_report_beside_a_checkpoint_tells_the_same_sizes(tmp_path: Path) -> None:
    found = _statistics(_exponential(50), sample_sizes=[1, 20, 49])
    measured = _report(_exponential(50), _held_out(_exponential(30)), sample_sizes=[1, 20, 49])
    curves = dataclasses.replace(
        measured.differences,
        samples_per_step=5,
        step_rms=torch.tensor([0.1, 0.05, math.nan]),
        orders_mean_abs=torch.tensor([[math.inf, 1.0]]),
    )
    report = dataclasses.replace(measured, differences=curves)
    path = write_sidecar(report, tmp_path / "a.ckpt", name="loss_difference")
    again = LossDifferenceReport.from_dict(read_sidecar(path))
    for rule in RULES:
        one, other = (r.required_sample_size(0.01, rule) for r in (report, again))
        assert dataclasses.asdict(one) == dataclasses.asdict(other)
    assert again.sentence(0.01) == report.sentence(0.01)
    assert again.differences.mean_abs.equal(found.differences.mean_abs)
    # what JSON has no number for
    torch.testing.assert_close(
        again.differences.step_rms, report.differences.step_rms.double(), equal_nan=True
    )
    assert again.differences.orders_mean_abs.tolist() == [[math.inf, 1.0]]
