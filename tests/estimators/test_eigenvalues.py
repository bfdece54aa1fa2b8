"""Both ends of the spectrum: order, sides, bounds, flags."""

from __future__ import annotations

import pytest
import torch

from lightning_hessian.linalg import RitzPairs, largest_eigenvalues, smallest_eigenvalues
from tests.helpers.spectra import outliers_and_bulk, rank_deficient, sweep, symmetric_with, various


def test_largest_and_smallest_are_algebraic_not_by_magnitude() -> None:
    values = torch.cat([torch.tensor([-30.0, -20.0, 4.0, 6.0]), torch.linspace(-1, 1, 196)])
    ritz = RitzPairs.of(sweep(symmetric_with(values), dimension=60))
    largest = largest_eigenvalues(ritz, 2, rtol=1e-6)
    smallest = smallest_eigenvalues(ritz, 2, rtol=1e-6)
    assert largest.values.tolist() == pytest.approx([6.0, 4.0], rel=1e-6)
    assert smallest.values.tolist() == pytest.approx([-30.0, -20.0], rel=1e-6)
    assert bool(largest.converged.all() & smallest.converged.all())


def test_extreme_ritz_values_lie_inside_the_spectrum() -> None:
    # Courant and Fischer: the k-th largest Ritz value is at most the k-th largest eigenvalue
    for seed in range(60):
        values = various(seed)
        ritz = RitzPairs.of(sweep(symmetric_with(values, seed=seed), dimension=12, seed=seed))
        largest = largest_eigenvalues(ritz, 3, rtol=1e-2)
        smallest = smallest_eigenvalues(ritz, 3, rtol=1e-2)
        rounding = 1e-13 * float(values.abs().max())
        assert bool((largest.values <= values.flip(0)[:3] + rounding).all())
        assert bool((smallest.values >= values[:3] - rounding).all())


def test_error_of_a_separated_eigenvalue_is_its_bound_squared_over_the_gap() -> None:
    values = torch.cat([torch.tensor([10.0]), torch.linspace(-1, 1, 199)])
    ritz = RitzPairs.of(sweep(symmetric_with(values), dimension=12, probes_per_block=2))
    largest = largest_eigenvalues(ritz, 1, rtol=1e-2)
    bound = float(largest.residual_bounds)
    assert 1e-6 < bound < 1
    # Kato and Temple; the gap is 9 less the bound
    assert abs(float(largest.values) - 10) <= bound**2 / (9 - bound)


def test_converged_means_a_bound_within_rtol_of_the_range() -> None:
    ritz = RitzPairs.of(sweep(symmetric_with(outliers_and_bulk(200)), dimension=24))
    for rtol in (1e-2, 1e-4, 5e-7):
        found = largest_eigenvalues(ritz, 10, rtol=rtol)
        extent = float(ritz.values.max() - ritz.values.min())
        assert torch.equal(found.converged, found.residual_bounds <= rtol * extent)
    assert 0 < int(found.converged.sum()) < 10


def test_zero_eigenvalues_converge_by_the_operators_norm() -> None:
    ritz = RitzPairs.of(sweep(symmetric_with(rank_deficient(100, 4)), dimension=40))
    found = smallest_eigenvalues(ritz, 1, rtol=1e-2)
    assert bool(found.converged)
    assert abs(float(found.values)) < 1e-13


@pytest.mark.parametrize(("count", "expected"), [(0, 0), (3, 3), (50, 8)])
def test_number_of_eigenvalues_is_as_asked_up_to_the_dimension(count: int, expected: int) -> None:
    ritz = RitzPairs.of(sweep(symmetric_with(outliers_and_bulk(100)), dimension=8))
    for found in (
        largest_eigenvalues(ritz, count, rtol=1e-2),
        smallest_eigenvalues(ritz, count, rtol=1e-2),
    ):
        assert len(found.values) == len(found.residual_bounds) == len(found.converged) == expected
