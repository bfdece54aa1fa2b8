"""The trace: unbiased for any basis, exact where it can be, with the variance of the theory."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from lightning_hessian.linalg import DenseOperator, KrylovSpace, estimate_trace
from lightning_hessian.records import TraceEstimate
from tests.helpers.spectra import (
    outliers_and_bulk,
    power_law,
    sweep,
    symmetric_indefinite,
    symmetric_with,
)


def _estimate(
    matrix: Tensor,
    *,
    seed: int,
    probes: int = 8,
    rtol: float = 1e-9,
    space: KrylovSpace | None = None,
) -> TraceEstimate:
    return estimate_trace(
        DenseOperator(matrix),
        rtol=rtol,
        max_num_probes=probes,
        generator=torch.Generator().manual_seed(seed),
        space=space,
    )


def _variance(matrix: Tensor) -> float:
    """Of one Rademacher probe: ``2 (||A||_F^2 - sum A_ii^2)``."""
    return 2 * float(matrix.square().sum() - matrix.diagonal().square().sum())


@pytest.mark.sampled
@pytest.mark.parametrize(
    "values", [outliers_and_bulk(150), power_law(150), symmetric_indefinite(150)]
)
@pytest.mark.parametrize("dimension", [0, 4, 32])
def test_trace_is_unbiased_with_the_derived_variance(values: Tensor, dimension: int) -> None:
    matrix = symmetric_with(values)
    # one basis, unconverged, and many independent sets of probes
    space = sweep(matrix, dimension=dimension, seed=999) if dimension else None
    rest = matrix
    if space is not None:
        complement = torch.eye(150, dtype=torch.float64) - space.basis.T @ space.basis
        rest = complement @ matrix @ complement
    runs, probes = 300, 8
    estimates = [_estimate(matrix, seed=s, probes=probes, space=space) for s in range(runs)]
    found = torch.tensor([e.value for e in estimates], dtype=torch.float64)
    error = math.sqrt(_variance(rest) / probes)
    assert abs(float(found.mean() - values.sum())) < 4 * error / math.sqrt(runs)
    # the scatter is as derived: a sample variance of 300 has a relative error of about 8 %
    assert float(found.std()) == pytest.approx(error, rel=0.25)
    stated = torch.tensor([e.standard_error for e in estimates]).square().mean().sqrt()
    assert float(stated) == pytest.approx(error, rel=0.15)


def test_diagonal_operator_is_measured_exactly_by_plain_hutchinson() -> None:
    diagonal = torch.linspace(-1, 3, 40, dtype=torch.float64)
    found = _estimate(torch.diag(diagonal), seed=0, probes=100, rtol=0.05)
    assert found.value == pytest.approx(40.0, rel=1e-12)
    assert found.standard_error < 1e-12
    assert found.num_probes == 8
    assert found.converged


def test_trace_of_the_whole_space_is_exact_and_costs_no_probe() -> None:
    matrix = symmetric_with(power_law(50))
    found = _estimate(matrix, seed=0, probes=0, space=sweep(matrix, dimension=50))
    assert found.value == pytest.approx(float(power_law(50).sum()), rel=1e-12)
    assert found.standard_error < 1e-12
    assert found.num_probes == 0
    assert found.interval[0] <= float(power_law(50).sum()) <= found.interval[1]


def test_deflation_by_the_sweep_takes_the_outliers_variance_away() -> None:
    matrix = symmetric_with(outliers_and_bulk(200))
    deflated = _estimate(matrix, seed=1, space=sweep(matrix, dimension=48))
    plain = _estimate(matrix, seed=1)
    assert deflated.standard_error < 0.05 * plain.standard_error


def test_trace_of_a_multiple_of_the_identity_is_right() -> None:
    # multiplicity far above the block's width: most of it is outside every small space
    matrix = 3 * torch.eye(200, dtype=torch.float64)
    for dimension in (4, 40, 160):
        space = sweep(matrix, dimension=dimension)
        rest = torch.eye(200, dtype=torch.float64) - space.basis.T @ space.basis
        found = _estimate(matrix, seed=3, space=space)
        assert abs(found.value - 600) < 4 * 3 * math.sqrt(_variance(rest) / 8)


@pytest.mark.parametrize("probes", [2, 5, 8])
def test_interval_is_students_with_the_pilots_degrees_of_freedom(probes: int) -> None:
    found = _estimate(symmetric_with(power_law(80)), seed=2, probes=probes)
    margin = stats.t.ppf(0.975, probes - 1) * found.standard_error
    assert found.interval == pytest.approx((found.value - margin, found.value + margin))
    assert found.num_probes == probes


def test_interval_keeps_the_pilots_degrees_of_freedom_when_probes_are_added() -> None:
    matrix = symmetric_with(symmetric_indefinite(100))
    theory = math.sqrt(_variance(matrix) / 50)
    for seed in range(20):
        found = _estimate(matrix, seed=seed, probes=50)
        assert found.num_probes == 50
        # a deviation of 50 probes is right to 10 %; four of these at most
        assert found.standard_error == pytest.approx(theory, rel=0.4)
        margin = stats.t.ppf(0.975, 7) * found.standard_error
        assert found.interval[1] - found.value == pytest.approx(margin)


def test_number_of_probes_is_what_the_tolerance_needs() -> None:
    matrix = symmetric_with(power_law(100))
    space = sweep(matrix, dimension=4)
    found = _estimate(matrix, seed=5, probes=10_000, rtol=0.02, space=space)
    # 2 % of the trace, about 52, is reached, with not one probe too many
    target = 0.02 * float(power_law(100).sum())
    assert found.converged
    assert found.standard_error == pytest.approx(target, rel=0.1)
    assert 8 < found.num_probes < 500


def test_cancelling_trace_is_held_to_the_sum_of_magnitudes() -> None:
    values = torch.cat([torch.linspace(1, 2, 50), -torch.linspace(1, 2, 50)])
    matrix = symmetric_with(values)
    space = sweep(matrix, dimension=60)
    found = _estimate(matrix, seed=6, probes=400, rtol=0.05, space=space)
    # the trace is 0: relative to itself nothing would ever do
    assert found.converged
    assert found.num_probes < 40


def test_single_probe_has_no_error_bar() -> None:
    found = _estimate(symmetric_with(power_law(30)), seed=7, probes=1)
    assert math.isnan(found.standard_error)
    assert found.interval == (-math.inf, math.inf)
    assert not found.converged


def test_zero_operator_needs_a_pilot_only() -> None:
    found = _estimate(torch.zeros(30, 30), seed=8, probes=100)
    assert (found.value, found.standard_error, found.num_probes) == (0, 0, 8)
    assert found.converged


def test_trace_without_any_probe_is_refused() -> None:
    matrix = symmetric_with(power_law(30))
    with pytest.raises(ValueError, match="`max_num_probes` must be at least 1, got 0"):
        _estimate(matrix, seed=0, probes=0, space=sweep(matrix, dimension=8))
