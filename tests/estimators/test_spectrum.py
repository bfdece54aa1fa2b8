"""One sweep for everything: what it costs, when it stops, what it says it has not reached."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from lightning_hessian.linalg import DenseOperator, measure_spectrum
from lightning_hessian.records import Spectrum
from tests.helpers.spectra import (
    outliers_and_bulk,
    power_law,
    rank_deficient,
    symmetric_indefinite,
    symmetric_with,
)

TYPES = [torch.float32, torch.float64]


def _measure(
    values: Tensor, *, seed: int = 0, dtype: torch.dtype = torch.float64, **options: Any
) -> Spectrum:
    return measure_spectrum(
        DenseOperator(symmetric_with(values, dtype=dtype)),
        generator=torch.Generator().manual_seed(seed),
        **options,
    )


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("factor", [1.0, -1.0, 1e-20, 1e20])
def test_outliers_and_trace_are_found_at_every_scale(factor: float, dtype: torch.dtype) -> None:
    values = factor * outliers_and_bulk(200)
    exact = values.sort().values
    found = _measure(values, dtype=dtype, num_smallest=3)
    for ends in (found.largest, found.smallest):
        error = (ends.values[:, None] - exact).abs().min(dim=1).values
        assert bool((error <= ends.residual_bounds).all())
    # 5 at the side of the outliers, 1 % of them
    outliers = found.largest if factor > 0 else found.smallest
    assert bool(outliers.converged.all())
    assert found.trace is not None
    assert abs(found.trace.value - float(values.sum())) < 4 * found.trace.standard_error


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9, 30])
def test_small_operators_are_measured_exactly_by_one_product_per_dimension(
    size: int, dtype: torch.dtype
) -> None:
    for seed in range(10):
        values = torch.linspace(-2, 3, size, dtype=torch.float64)
        found = _measure(values, seed=seed, dtype=dtype)
        limit = 300 * torch.finfo(dtype).eps
        count = min(5, size)
        assert float((found.largest.values - values.flip(0)[:count]).abs().max()) < limit
        assert found.trace is not None
        assert abs(found.trace.value - float(values.sum())) < size * limit
        assert found.trace.num_probes == 0
        assert found.num_hvps == size
        assert found.notes == ()


@pytest.mark.parametrize(("size", "cost"), [(17, 17), (24, 24), (25, 16 + 8)])
def test_few_dimensions_left_are_taken_in_rather_than_probed(size: int, cost: int) -> None:
    # one eigenvalue that converges at once; of blocks the trace asks for two pilots of products
    values = torch.zeros(size)
    values[0] = 1.0
    blocks = [torch.arange(size)]
    found = _measure(values, num_eigenvalues=1, num_smallest=0, density=False, blocks=blocks)
    assert found.trace is not None
    assert found.trace.value == pytest.approx(1, abs=1e-12)
    assert found.num_hvps == cost


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 1e-20])
def test_multiple_of_the_identity(value: float, dtype: torch.dtype) -> None:
    found = _measure(torch.full((300,), value, dtype=torch.float64), dtype=dtype)
    limit = 100 * torch.finfo(dtype).eps * abs(value)
    assert float((found.largest.values - value).abs().max()) <= limit
    assert found.trace is not None
    assert abs(found.trace.value - 300 * value) <= 4 * found.trace.standard_error
    assert found.negative_mass is not None
    assert found.negative_mass.fraction == pytest.approx(float(value < 0), abs=1e-12)
    # nothing more is to be learnt: a sweep that goes on would chase rounding
    assert found.num_hvps <= 40
    assert bool(found.largest.converged.all())


@pytest.mark.parametrize("dtype", TYPES)
def test_rank_deficient_operator(dtype: torch.dtype) -> None:
    found = _measure(rank_deficient(300, 7), dtype=dtype)
    assert found.largest.values.tolist() == pytest.approx([7, 6, 5, 4, 3], rel=1e-5)
    assert found.trace is not None
    assert found.trace.value == pytest.approx(28, rel=1e-5)
    assert found.density is not None
    # the curve's mass at zero is the null space's
    at_zero = found.density.weights[found.density.nodes.abs() < 1e-3].sum()
    assert float(at_zero) == pytest.approx(293 / 300, rel=1e-3)
    assert found.notes == ()


@pytest.mark.parametrize("copies", [5, 7, 9, 20])
def test_an_eigenvalue_of_more_copies_than_the_block_is_wide_counts_in_full(copies: int) -> None:
    # a penalty of the weights gives all that the loss does not see one eigenvalue
    values = torch.cat([torch.linspace(0.5, 3, 50 - copies), torch.full((copies,), 0.2)]).double()
    matrix, hits = symmetric_with(values), 0
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        found = measure_spectrum(
            DenseOperator(matrix), probes_per_block=4, trace_rtol=0.01, generator=generator
        )
        assert found.trace is not None
        assert found.density is not None
        low, high = found.trace.interval
        rounding = 1e-9 * float(values.sum())
        hits += low - rounding <= float(values.sum()) <= high + rounding
        assert float(found.density.weights.sum()) == pytest.approx(1, abs=1e-9)
    # of 20 intervals of 95 % fewer than 16 hold in one case of 400
    assert hits >= 16


def test_largest_is_positive_where_the_most_negative_is_larger_in_magnitude() -> None:
    values = torch.cat([torch.tensor([-50.0, -40.0, 3.0, 2.0]), torch.linspace(-1, 1, 296)])
    found = _measure(values, num_eigenvalues=2, num_smallest=2)
    assert found.largest.values.tolist() == pytest.approx([3, 2], rel=1e-2)
    assert found.smallest.values.tolist() == pytest.approx([-50, -40], rel=1e-6)


@pytest.mark.parametrize("max_hvps", [8, 9, 16, 23, 100, 399, 400])
def test_budget_is_kept_and_the_count_is_true(max_hvps: int) -> None:
    told: list[int] = []
    found = _measure(symmetric_indefinite(400), max_hvps=max_hvps, on_products=told.append)
    assert found.num_hvps == sum(told) <= max_hvps
    assert found.trace is not None


def test_what_is_not_reached_is_said() -> None:
    found = _measure(symmetric_indefinite(400), max_hvps=16, rtol=1e-6, trace_rtol=1e-4)
    text = " ".join(found.notes)
    assert "5 of the 5 largest eigenvalues did not reach rtol=1e-06 within max_hvps=16" in text
    assert "1 of the 1 smallest eigenvalues did not reach" in text
    assert "the trace did not reach trace_rtol=0.0001" in text
    assert "the density still moved by" in text
    assert found.trace is not None
    assert not found.trace.converged
    assert not bool(found.largest.converged.any())


def test_nothing_is_said_when_everything_is_reached() -> None:
    assert _measure(outliers_and_bulk(300), num_smallest=0).notes == ()


def test_density_is_settled_to_its_tolerance_when_the_sweep_stops() -> None:
    values = power_law(400)
    exact = values.sort().values
    found = _measure(values, trace=False)
    assert found.density is not None
    moved = stats.wasserstein_distance(found.density.nodes, exact, found.density.weights)
    assert moved < 2e-3 * float(exact[-1] - exact[0])


def test_looser_tolerance_costs_fewer_products() -> None:
    costs = [_measure(power_law(300), rtol=rtol, density=False).num_hvps for rtol in (0.3, 1e-3)]
    assert costs[0] < costs[1]


def test_what_is_not_asked_for_is_not_measured() -> None:
    found = _measure(power_law(100), num_smallest=0, trace=False, density=False)
    assert found.trace is None
    assert found.density is None
    assert found.negative_mass is None
    assert len(found.smallest.values) == 0
    only_trace = _measure(power_law(300), num_eigenvalues=0, num_smallest=0, density=False)
    assert only_trace.trace is not None
    assert abs(only_trace.trace.value - float(power_law(300).sum())) < (
        4 * only_trace.trace.standard_error
    )


def test_same_generator_gives_the_same_bits() -> None:
    first, second = (_measure(outliers_and_bulk(100), seed=5) for _ in range(2))
    assert torch.equal(first.largest.values, second.largest.values)
    assert first.trace is not None
    assert second.trace is not None
    assert first.trace.value == second.trace.value


def test_nothing_asked_for_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to measure"):
        _measure(torch.ones(5), num_eigenvalues=0, num_smallest=0, trace=False, density=False)


def test_budget_without_room_for_a_block_and_probes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`max_hvps` must leave room .* Give at least 8"):
        _measure(torch.ones(50), max_hvps=3)
    with pytest.raises(ValueError, match=r"`max_hvps` must leave room .* got 3"):
        _measure(torch.ones(50), max_hvps=3, trace=False)
