"""The laws of the block Lanczos sweep, on matrices with known eigenvalues."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_hessian.errors import NonFiniteError
from lightning_hessian.linalg import DenseOperator, RitzPairs, block_lanczos, rademacher
from tests.helpers.spectra import (
    outliers_and_bulk,
    power_law,
    rank_deficient,
    sweep,
    symmetric_indefinite,
    symmetric_with,
    various,
)

TYPES = [torch.float32, torch.float64]
SPECTRA = {
    "outliers": outliers_and_bulk(120),
    "power law": power_law(120),
    "indefinite": symmetric_indefinite(120),
    "rank 6": rank_deficient(120, 6),
    "identity": torch.ones(120),
    "zero": torch.zeros(120),
    "two values": torch.tensor([-3.0] * 60 + [1.0] * 60),
}


def _rounding(matrix: Tensor) -> float:
    """A hundred roundings of the matrix's norm: products of 120 terms, a few passes."""
    return 100 * torch.finfo(matrix.dtype).eps * max(float(torch.linalg.matrix_norm(matrix, 2)), 1)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("dimension", [1, 4, 40, 119, 120])
@pytest.mark.parametrize("name", SPECTRA)
def test_space_obeys_the_lanczos_relation(name: str, dimension: int, dtype: torch.dtype) -> None:
    matrix = symmetric_with(SPECTRA[name], dtype=dtype)
    space = sweep(matrix, dimension=dimension)
    q, limit = space.basis.double(), _rounding(matrix)
    # orthonormal to rounding
    assert float((q @ q.T - torch.eye(len(q))).abs().max()) < _rounding(torch.eye(2, dtype=dtype))
    # A Q = Q T + F, with F orthogonal to Q, of the stated coordinates, from the last block only
    rest = matrix.double() @ q.T - q.T @ space.projection
    assert float((q @ rest).abs().max()) < limit
    gram = space.outflow.T @ space.outflow
    assert float((rest.T @ rest - gram).abs().max()) < limit * max(float(matrix.norm()), 1)
    assert not bool(space.outflow[:, : max(len(q) - 4, 0)].any())
    assert torch.equal(space.projection, space.projection.T)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", SPECTRA)
def test_probes_are_their_coordinates_in_the_basis(name: str, dtype: torch.dtype) -> None:
    matrix = symmetric_with(SPECTRA[name], dtype=dtype)
    space = sweep(matrix, dimension=24, seed=3)
    probes = rademacher(120, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    back = space.basis.double().T @ space.start
    assert float((back - probes).abs().max()) < _rounding(torch.eye(2, dtype=dtype))


@pytest.mark.sampled
@pytest.mark.parametrize("dtype", TYPES)
def test_an_eigenvalue_lies_within_every_residual_bound(dtype: torch.dtype) -> None:
    for seed in range(240):
        matrix = symmetric_with(various(seed), seed=seed, dtype=dtype)
        exact = torch.linalg.eigvalsh(matrix.double())
        dimension = 5 + seed % 7 * 10
        ritz = RitzPairs.of(
            sweep(matrix, dimension=dimension, probes_per_block=1 + seed % 5, seed=seed)
        )
        distance = (ritz.values[:, None] - exact).abs().min(dim=1).values
        # the reference's own rounding, which only a float64 sweep can feel
        reference = 20 * torch.finfo(torch.float64).eps * ritz.scale
        assert bool((distance <= ritz.bounds + reference).all()), seed


@pytest.mark.sampled
@pytest.mark.parametrize("dtype", TYPES)
def test_bounds_of_exact_eigenpairs_are_rounding(dtype: torch.dtype) -> None:
    for seed in range(60):
        matrix = symmetric_with(various(seed), seed=seed, dtype=dtype)
        ritz = RitzPairs.of(sweep(matrix, dimension=len(matrix), seed=seed))
        # too wide a bound would never converge: a few tens of roundings at most
        assert float(ritz.bounds.max()) < 100 * torch.finfo(dtype).eps * ritz.scale


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", SPECTRA)
def test_whole_space_gives_all_eigenvalues(name: str, dtype: torch.dtype) -> None:
    matrix = symmetric_with(SPECTRA[name], dtype=dtype)
    space = sweep(matrix, dimension=500)
    assert space.is_whole
    assert space.dimension == 120
    ritz = RitzPairs.of(space)
    exact = torch.linalg.eigvalsh(matrix.double())
    assert float((ritz.values - exact).abs().max()) < _rounding(matrix)
    assert len(space.outflow) == 0


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("factor", [0.0, 1.0, 1e-20, 1e20])
def test_tiny_and_scaled_operators_are_solved_whole(
    size: int, factor: float, dtype: torch.dtype
) -> None:
    # with 2 dimensions and 4 probes some probes are parallel, for many seeds
    for seed in range(20):
        values = torch.linspace(-1, 2, size, dtype=torch.float64)
        matrix = (factor * symmetric_with(values, seed=seed)).to(dtype)
        ritz = RitzPairs.of(sweep(matrix, dimension=10, seed=seed))
        error = (ritz.values - factor * values).abs().max()
        assert float(error) <= factor * _rounding(torch.eye(2, dtype=dtype))


def test_parallel_probes_give_one_direction_and_a_random_complement() -> None:
    matrix = symmetric_with(power_law(30))
    probe = torch.ones(30, 1, dtype=torch.float64)
    space = block_lanczos(
        DenseOperator(matrix),
        torch.cat([probe, -probe, probe], dim=1),
        max_dimension=9,
        generator=torch.Generator().manual_seed(0),
        should_stop=lambda space: False,
    )
    assert space.dimension == 9
    torch.testing.assert_close(space.basis @ space.basis.T, torch.eye(9, dtype=torch.float64))
    # all three probes lie along the first basis vector
    assert float(space.start[0].abs().min()) == pytest.approx(30**0.5, rel=1e-12)
    assert float(space.start[1:].abs().max()) < 1e-12


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("factor", [1e-20, 1e20])
def test_sweep_is_equivariant_under_scaling(factor: float, dtype: torch.dtype) -> None:
    matrix = symmetric_with(outliers_and_bulk(100))
    plain = RitzPairs.of(sweep(matrix.to(dtype), dimension=32))
    scaled = RitzPairs.of(sweep((factor * matrix).to(dtype), dimension=32))
    # Ritz values inside the bulk follow rounding errors; converged ones do not
    converged = plain.bounds < 1e-4 * plain.scale
    difference = (scaled.values / factor - plain.values)[converged].abs().max()
    assert float(difference) < 2e-4 * plain.scale
    assert int(converged.sum()) >= 8


@pytest.mark.parametrize("dtype", TYPES)
def test_no_ghost_copies_of_outliers_after_100_steps(dtype: torch.dtype) -> None:
    # other libraries show 56 copies of 5 outliers here
    values = torch.cat([torch.tensor([10.0, 12.0, 15.0, 20.0, 40.0]), torch.linspace(-1, 1, 495)])
    matrix = symmetric_with(values, dtype=dtype)
    ritz = RitzPairs.of(sweep(matrix, dimension=100, probes_per_block=1))
    above = ritz.values[ritz.values > 2]
    torch.testing.assert_close(above, values[:5].double(), rtol=1e-5, atol=0)


def test_eigenvalue_of_high_multiplicity_is_found_once_for_each_probe_and_never_too_often() -> None:
    values = torch.cat([torch.full((10,), 5.0), torch.linspace(-1, 1, 110)])
    for dimension, copies in ((24, 3), (120, 10)):
        ritz = RitzPairs.of(sweep(symmetric_with(values), dimension=dimension, probes_per_block=3))
        assert int((ritz.values > 4.999).sum()) == copies


def test_one_step_gives_the_rayleigh_quotients_of_the_probes() -> None:
    matrix = symmetric_with(power_law(50))
    space = sweep(matrix, dimension=1, probes_per_block=1)
    probe = rademacher(50, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    quotient = float((probe * (matrix @ probe)).sum()) / 50
    assert space.num_blocks == 1
    assert float(space.projection) == pytest.approx(quotient, rel=1e-12)


@pytest.mark.parametrize("dtype", TYPES)
def test_complement_of_the_space_holds_nothing_of_the_basis(dtype: torch.dtype) -> None:
    space = sweep(symmetric_with(power_law(100), dtype=dtype), dimension=40)
    vectors = rademacher(100, 3, generator=torch.Generator().manual_seed(9), dtype=dtype)
    removed = space.remove_from(vectors)
    limit = _rounding(torch.eye(2, dtype=dtype))
    assert float((space.basis @ removed).abs().max()) < 10 * limit
    # what is left and what was taken add up
    back = removed + space.basis.T @ (space.basis @ vectors)
    assert float((back - vectors).abs().max()) < limit


def test_stops_when_told_and_never_beyond_the_dimension_allowed() -> None:
    matrix = symmetric_with(power_law(100))
    assert sweep(matrix, dimension=39, probes_per_block=4).dimension == 36
    probes = rademacher(100, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    space = block_lanczos(
        DenseOperator(matrix),
        probes,
        max_dimension=80,
        generator=torch.Generator().manual_seed(1),
        should_stop=lambda space: space.num_blocks == 3,
    )
    assert space.dimension == 12


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", TYPES)
def test_non_finite_products_are_refused(bad: float, dtype: torch.dtype) -> None:
    class Broken(DenseOperator):
        def matmat(self, vectors: Tensor) -> Tensor:
            products = super().matmat(vectors)
            products[3, 0] = bad
            return products

    probes = rademacher(20, 2, generator=torch.Generator().manual_seed(0), dtype=dtype)
    with pytest.raises(NonFiniteError, match="Hessian-vector product holds NaN or infinity"):
        block_lanczos(
            Broken(torch.eye(20, dtype=dtype)),
            probes,
            max_dimension=10,
            generator=torch.Generator(),
            should_stop=lambda space: False,
        )
