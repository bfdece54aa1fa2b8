"""The spectral density against what it must integrate to, and against all eigenvalues."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from lightning_hessian.linalg import RitzPairs, quadrature_weights, spectral_density
from lightning_hessian.records import SpectralDensity
from tests.helpers.spectra import (
    outliers_and_bulk,
    power_law,
    rank_deficient,
    sweep,
    symmetric_indefinite,
    symmetric_with,
    various,
)


def _density(
    values: Tensor, *, dimension: int, seed: int = 0, dtype: torch.dtype = torch.float64
) -> SpectralDensity:
    space = sweep(symmetric_with(values, dtype=dtype), dimension=dimension, seed=seed)
    return spectral_density(space, RitzPairs.of(space))


def _axis(density: SpectralDensity) -> Tensor:
    """Points from 10 bandwidths below the nodes to 10 above, 10 to a bandwidth."""
    low = float(density.nodes[0]) - 10 * density.bandwidth
    high = float(density.nodes[-1]) + 10 * density.bandwidth
    return torch.linspace(
        low, high, int(10 * (high - low) / density.bandwidth) + 1, dtype=torch.float64
    )


@pytest.mark.parametrize("values", [outliers_and_bulk(150), power_law(150), torch.ones(50)])
def test_curve_integrates_to_the_moments_of_the_quadrature(values: Tensor) -> None:
    density = _density(values, dimension=40)
    x = _axis(density)
    curve = density.evaluate(x)
    # the trapezoidal rule on a Gaussian, 10 points to its width, is exact to rounding
    assert float(torch.trapezoid(curve, x)) == pytest.approx(1, rel=1e-9)
    assert float(torch.trapezoid(curve * x, x)) == pytest.approx(density.mean, rel=1e-9)
    second = density.second_moment + density.bandwidth**2
    assert float(torch.trapezoid(curve * x * x, x)) == pytest.approx(second, rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_are_shares_for_every_kind_of_spectrum(dtype: torch.dtype) -> None:
    for seed in range(60):
        values = various(seed)
        density = _density(values, dimension=5 + seed, seed=seed, dtype=dtype)
        assert float(density.weights.sum()) == pytest.approx(1, abs=1e-12)
        assert float(density.probe_weights.min()) >= 0
        ones = torch.ones(density.probe_weights.shape[1], dtype=torch.float64)
        torch.testing.assert_close(density.probe_weights.sum(dim=0), ones)
        assert bool((density.nodes.diff() >= 0).all())


def test_bare_quadrature_has_the_probes_own_moments_up_to_twice_the_steps() -> None:
    matrix = symmetric_with(symmetric_indefinite(80))
    space = sweep(matrix, dimension=12, probes_per_block=3)
    ritz = RitzPairs.of(space)
    weights = quadrature_weights(space, ritz)
    probes = space.basis.T @ space.start
    powered = probes.clone()
    # Gauss quadrature: 4 block steps are exact to degree 2 * 4 - 1 = 7
    for degree in range(8):
        moments = (probes * powered).sum(dim=0) / 80
        torch.testing.assert_close(ritz.values.pow(degree) @ weights, moments, rtol=0, atol=1e-13)
        powered = matrix @ powered


@pytest.mark.parametrize("factor", [1e-20, 0.01, -1.0, 1e20])
def test_density_of_a_scaled_operator_is_the_scaled_density(factor: float) -> None:
    values = power_law(100)
    plain, scaled = _density(values, dimension=40), _density(factor * values, dimension=40)
    x = _axis(plain)[::7]
    expected = plain.evaluate(x) / abs(factor)
    torch.testing.assert_close(
        scaled.evaluate(factor * x), expected, rtol=1e-6, atol=1e-6 * float(expected.max())
    )
    assert scaled.bandwidth == pytest.approx(abs(factor) * plain.bandwidth, rel=1e-9)


@pytest.mark.parametrize("values", [outliers_and_bulk(60), rank_deficient(60, 5), torch.ones(60)])
def test_density_of_the_whole_space_is_exact_without_error(values: Tensor) -> None:
    density = _density(values, dimension=60)
    exact = values.double().sort().values
    assert stats.wasserstein_distance(density.nodes, exact, density.weights) < 1e-12
    assert float(density.standard_error(_axis(density)).max()) == 0


def test_null_space_keeps_its_mass() -> None:
    # locking simple eigenvalues at 1/n must not take a converged zero for a simple one
    for seed in range(20):
        density = _density(rank_deficient(300, 6), dimension=40, seed=seed)
        at_zero = float(density.weights[density.nodes.abs() < 1e-6].sum())
        assert at_zero == pytest.approx(294 / 300, abs=1e-9)


def test_degenerate_eigenvalue_keeps_its_mass() -> None:
    values = torch.cat([torch.full((90,), 3.0), torch.linspace(-1, 1, 210)])
    shares = []
    for seed in range(20):
        density = _density(values, dimension=60, seed=seed)
        shares.append(float(density.weights[(density.nodes - 3).abs() < 1e-6].sum()))
    # one probe's share has the variance 2 f (1 - f) / n; 80 probes in all
    error = math.sqrt(2 * 0.3 * 0.7 / (300 * 80))
    assert sum(shares) / 20 == pytest.approx(0.3, abs=4 * error)


def test_outliers_have_the_mass_of_one_eigenvalue_each() -> None:
    density = _density(outliers_and_bulk(300), dimension=60)
    assert density.weights[-10:].tolist() == pytest.approx([1 / 300] * 10, rel=1e-9)


def test_quadrature_of_bulk_and_outliers_is_within_its_sampling_error() -> None:
    values = outliers_and_bulk(400)
    exact = values.sort().values
    # mean |F_probes - F| of a normal with the variance 2 F (1 - F) / (n b), integrated
    below = torch.arange(1, 400) / 400
    spread = (2 * below * (1 - below) / (400 * 4)).sqrt() * math.sqrt(2 / math.pi)
    expected = float((spread * exact.diff())[:389].sum())
    for seed in range(5):
        density = _density(values, dimension=80, seed=seed)
        # locked outliers have no error; that of the bulk is positively correlated along the axis
        assert stats.wasserstein_distance(density.nodes, exact, density.weights) < 3 * expected


def test_standard_error_is_the_scatter_over_seeds() -> None:
    densities = [_density(symmetric_indefinite(200), dimension=60, seed=s) for s in range(40)]
    x = torch.linspace(-0.6, 0.6, 7, dtype=torch.float64)
    curves = torch.stack([density.evaluate(x) for density in densities])
    stated = torch.stack([density.standard_error(x) for density in densities]).square().mean(0)
    # 39 degrees of freedom against 120: the ratio of variances is within 2 for these 7 points
    ratio = curves.var(dim=0) / stated
    assert float(ratio.max()) < 2.5
    assert float(ratio.min()) > 0.4


def test_standard_error_of_a_single_probe_is_unknown() -> None:
    space = sweep(symmetric_with(power_law(50)), dimension=10, probes_per_block=1)
    density = spectral_density(space, RitzPairs.of(space))
    assert bool(density.standard_error(torch.zeros(3)).isnan().all())


def test_zero_operator_has_all_its_mass_at_zero_and_a_finite_curve() -> None:
    density = _density(torch.zeros(40), dimension=12)
    assert float(density.weights[density.nodes == 0].sum()) == pytest.approx(1)
    assert float(density.evaluate(torch.zeros(1))) == pytest.approx(1 / (0.01 * math.tau**0.5))
