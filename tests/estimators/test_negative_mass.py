"""The share of negative eigenvalues: bounds that hold for each probe, and a calibrated bracket."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lightning_hessian.linalg import KrylovSpace, RitzPairs, negative_mass, spectral_density
from lightning_hessian.linalg.share_below import _jacobi_matrices, radau_bounds, wilson
from lightning_hessian.records import NegativeMass
from tests.helpers.spectra import (
    outliers_and_bulk,
    power_law,
    sweep,
    symmetric_indefinite,
    symmetric_with,
    various,
)


def _measured(matrix: Tensor, *, dimension: int, seed: int = 0) -> NegativeMass:
    space = sweep(matrix, dimension=dimension, seed=seed)
    ritz = RitzPairs.of(space)
    return negative_mass(space, ritz, spectral_density(space, ritz))


def _own_measure(matrix: Tensor, space: KrylovSpace, point: float) -> Tensor:
    """Each probe's exact measure of the eigenvalues below a point."""
    values, vectors = torch.linalg.eigh(matrix)
    weights = (vectors.T @ (space.basis.T @ space.start)).square()
    return weights[values < point].sum(dim=0) / weights.sum(dim=0)


def test_radau_bounds_hold_for_each_probes_own_measure() -> None:
    generator = torch.Generator().manual_seed(0)
    for seed in range(90):
        matrix = symmetric_with(various(seed), seed=seed)
        space = sweep(matrix, dimension=4 + seed % 6 * 8, probes_per_block=1 + seed % 4, seed=seed)
        scale = RitzPairs.of(space).scale
        for share in torch.randn(4, generator=generator).tolist():
            # irrational, and never an eigenvalue of the integer spectra to rounding
            point = 0.5 * share * scale
            exact = _own_measure(matrix, space, point)
            for jacobi, own in zip(_jacobi_matrices(space), exact.tolist(), strict=True):
                lower, upper = radau_bounds(*jacobi, point)
                assert lower - 1e-8 <= own <= upper + 1e-8, (seed, share)


def test_radau_bounds_hold_where_the_point_is_a_ritz_value() -> None:
    # the prescribed node is there already: the modified matrix would be infinite
    matrix = symmetric_with(symmetric_indefinite(60))
    space = sweep(matrix, dimension=6, probes_per_block=1)
    for point in RitzPairs.of(space).values.tolist():
        own = float(_own_measure(matrix, space, point))
        lower, upper = radau_bounds(*_jacobi_matrices(space)[0], point)
        assert lower <= own <= upper


def test_radau_bounds_tighten_with_every_step() -> None:
    matrix = symmetric_with(symmetric_indefinite(200))
    widths = []
    for steps in (2, 5, 10, 20, 40, 80):
        space = sweep(matrix, dimension=steps, probes_per_block=1)
        lower, upper = radau_bounds(*_jacobi_matrices(space)[0], -0.1)
        widths.append(upper - lower)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.05


@pytest.mark.parametrize("dimension", [4, 16, 48])
def test_bracket_holds_the_true_share_of_many_random_matrices(dimension: int) -> None:
    missed = 0
    for seed in range(60):
        values = various(seed)
        matrix = symmetric_with(values, seed=seed)
        found = _measured(matrix, dimension=dimension, seed=seed)
        share = float((values < -found.threshold).double().mean())
        lower, upper = found.bracket
        assert 0 <= lower <= found.fraction <= upper <= 1
        missed += not lower - 1e-12 <= share <= upper + 1e-12
    # two standard errors alone would miss 3 of 60; Lanczos resolution only widens
    assert missed <= 3


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 1.0])
def test_widening_ends_at_the_shares_two_of_their_own_errors_away(share: float) -> None:
    for sign in (-1, 1):
        end = wilson(share, 500.0, sign)
        error = math.sqrt(end * (1 - end) / 500)
        assert end - share == pytest.approx(sign * 2 * error, abs=1e-12)
    # probes that saw nothing do not prove that there is nothing
    assert wilson(0.0, 500.0, 1) == pytest.approx(4 / 504)


def test_bracket_covers_a_single_negative_eigenvalue_that_probes_may_miss() -> None:
    # the measure of one eigenvalue scatters like chi-squared of 4: half of it is often missing
    values = torch.cat([torch.tensor([-1.0]), torch.linspace(0.5, 1, 199)])
    matrix = symmetric_with(values)
    hits = 0
    for seed in range(120):
        lower, upper = _measured(matrix, dimension=24, seed=seed).bracket
        hits += lower <= 1 / 200 <= upper
    # interlacing counts it below; above, Wilson's bound fails in the upper 5 % at most
    assert hits >= 0.93 * 120


def test_bracket_narrows_as_the_space_grows() -> None:
    matrix = symmetric_with(symmetric_indefinite(300))
    widths = []
    for dimension in (8, 32, 96, 192, 300):
        lower, upper = _measured(matrix, dimension=dimension).bracket
        widths.append(upper - lower)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] == 0


def test_ritz_values_beyond_the_threshold_count_for_certain() -> None:
    # interlacing: 60 of 100 dimensions leave at most 40 eigenvalues unseen
    values = symmetric_indefinite(100)
    space = sweep(symmetric_with(values), dimension=60)
    ritz = RitzPairs.of(space)
    found = negative_mass(space, ritz, spectral_density(space, ritz))
    assert found.bracket[0] >= float((ritz.values < -found.threshold).sum()) / 100 - 1e-12
    assert found.bracket[1] <= 1 - float((ritz.values > -found.threshold).sum()) / 100 + 1e-12


def test_whole_space_counts_exactly() -> None:
    values = torch.cat([-torch.arange(1.0, 8.0), torch.zeros(20), torch.arange(1.0, 14.0)])
    found = _measured(symmetric_with(values), dimension=40)
    assert found.fraction == pytest.approx(7 / 40)
    assert found.bracket == (found.fraction, found.fraction)


def test_threshold_is_below_zero_and_a_thousandth_of_the_norm() -> None:
    # -0.0001 and +0.004 both lie on the not-negative side of -0.001; -0.004 does not
    values = torch.tensor([1.0, -0.0001, 0.004, -0.004, 0.5])
    found = _measured(symmetric_with(values), dimension=5)
    assert found.threshold == pytest.approx(1e-3)
    assert found.fraction == pytest.approx(1 / 5)


@pytest.mark.parametrize("values", [power_law(200), torch.ones(200), torch.zeros(200)])
def test_semidefinite_operators_have_no_negative_share(values: Tensor) -> None:
    found = _measured(symmetric_with(values), dimension=80)
    assert found.fraction == 0
    # four probes cannot exclude what is rarer than 8 / (n b)
    assert found.bracket[0] == 0
    assert found.bracket[1] < 0.05


def test_outliers_do_not_hide_a_negative_bulk() -> None:
    values = outliers_and_bulk(300)
    found = _measured(symmetric_with(values), dimension=160)
    share = float((values < -found.threshold).double().mean())
    assert found.fraction == pytest.approx(share, abs=0.1)
