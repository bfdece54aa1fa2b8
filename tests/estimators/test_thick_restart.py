"""Thick restarts find what the full sweep finds, in a basis that does not grow."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_hessian.linalg import DenseOperator, ExtremePairs, extreme_eigenpairs
from lightning_hessian.linalg import basis as basis_module
from tests.helpers.held_vectors import DiagonalOperator, HeldVectors
from tests.helpers.spectra import outliers_and_bulk, symmetric_with, various

TYPES = [torch.float32, torch.float64]
BULK = torch.linspace(-1, 1, 288, dtype=torch.float64)
SPECTRA = {
    "outliers": outliers_and_bulk(300),
    "clustered": torch.cat([5 + 1e-3 * torch.arange(6).double(), -4 + BULK[:6] / 100, BULK]),
    "both ends": torch.cat([torch.linspace(2, 9, 6).double(), -torch.linspace(2, 9, 6), BULK]),
    "multiple": torch.cat([torch.full((4,), 6.0), torch.full((4,), -3.0), BULK, BULK[:4]]),
}


def _found(values: Tensor, *, dtype: torch.dtype = torch.float64, **options: Any) -> ExtremePairs:
    settings = {
        "num_largest": 4,
        "num_smallest": 3,
        "max_vectors": 20,
        "rtol": 1e-3,
        "max_hvps": 600,
        "generator": torch.Generator().manual_seed(0),
        **options,
    }
    return extreme_eigenpairs(DenseOperator(symmetric_with(values, dtype=dtype)), **settings)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", ["clustered", "both ends", "multiple"])
def test_both_ends_are_found_with_their_multiplicities(name: str, dtype: torch.dtype) -> None:
    values = SPECTRA[name]
    exact = values.sort().values
    # a tenth of the gaps within a cluster; of the range, which in float32 is known to 2e-5
    found = _found(values, dtype=dtype, rtol=1e-5 if dtype == torch.float64 else 3e-5)
    assert found.num_restarts >= 1
    assert found.space.dimension <= 20
    assert bool(found.largest.converged.all())
    assert bool(found.smallest.converged.all())
    assert bool(
        ((found.largest.values - exact.flip(0)[:4]).abs() <= found.largest.residual_bounds).all()
    )
    assert bool(((found.smallest.values - exact[:3]).abs() <= found.smallest.residual_bounds).all())


@pytest.mark.parametrize("dtype", TYPES)
def test_an_eigenvalue_lies_within_every_bound_after_many_restarts(dtype: torch.dtype) -> None:
    for seed in range(18):
        matrix = symmetric_with(various(seed), seed=seed, dtype=dtype)
        exact = torch.linalg.eigvalsh(matrix.double())
        found = extreme_eigenpairs(
            DenseOperator(matrix),
            num_largest=2,
            num_smallest=1,
            max_vectors=8,
            probes_per_block=1 + seed % 2,
            rtol=1e-12,
            max_hvps=48,
            generator=torch.Generator().manual_seed(seed),
        )
        distance = (found.ritz.values[:, None] - exact).abs().min(dim=1).values
        reference = 20 * torch.finfo(torch.float64).eps * found.ritz.scale
        assert bool((distance <= found.ritz.bounds + reference).all()), seed


@pytest.mark.parametrize("dtype", TYPES)
def test_space_obeys_the_lanczos_relation_after_restarts(dtype: torch.dtype) -> None:
    matrix = symmetric_with(SPECTRA["outliers"], dtype=dtype)
    found = _found(SPECTRA["outliers"], dtype=dtype, rtol=1e-12, max_hvps=200)
    assert found.num_restarts >= 5
    space, limit = found.space, 1000 * torch.finfo(dtype).eps
    q = space.basis.double()
    assert float((q @ q.T - torch.eye(len(q))).abs().max()) < limit
    rest = matrix.double() @ q.T - q.T @ space.projection
    norm = 50.0
    assert float((q @ rest).abs().max()) < norm * limit
    gram = space.outflow.T @ space.outflow
    assert float((rest.T @ rest - gram).abs().max()) < norm**2 * limit


def test_without_need_for_a_restart_it_is_the_full_sweep() -> None:
    found = _found(SPECTRA["outliers"], num_smallest=0, max_vectors=200)
    assert found.num_restarts == 0
    assert found.num_hvps == found.space.dimension


def test_products_and_restarts_are_counted_within_the_budget() -> None:
    class Counting(DenseOperator):
        products = 0

        def matmat(self, vectors: Tensor) -> Tensor:
            Counting.products += vectors.shape[1]
            return super().matmat(vectors)

    found = extreme_eigenpairs(
        Counting(symmetric_with(BULK)),
        num_largest=4,
        num_smallest=4,
        max_vectors=24,
        rtol=1e-9,
        max_hvps=99,
        generator=torch.Generator().manual_seed(0),
    )
    assert found.num_hvps == Counting.products == 96
    assert not bool(found.largest.converged.all())


def test_memory_stays_that_of_the_basis_and_few_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 20000
    monkeypatch.setattr(basis_module, "TILE", 500)
    operator = DiagonalOperator(size)
    with HeldVectors(size, 4) as held:
        found = extreme_eigenpairs(
            operator,
            num_largest=3,
            num_smallest=1,
            max_vectors=20,
            rtol=1e-9,
            max_hvps=100,
            generator=torch.Generator().manual_seed(0),
        )
    assert found.num_restarts >= 5
    # products, remainder, and two of the next block; restarts are in place
    assert held.peak <= 20 + 4 * 4
    assert held.peak >= 20


def test_one_end_only() -> None:
    exact = SPECTRA["both ends"].sort().values
    top = _found(SPECTRA["both ends"], num_smallest=0)
    assert float((top.largest.values - exact.flip(0)[:4]).abs().max()) < 1e-4
    assert len(top.smallest.values) == 0
    bottom = _found(SPECTRA["both ends"], num_largest=0)
    assert float((bottom.smallest.values - exact[:3]).abs().max()) < 1e-4


def test_operator_smaller_than_the_basis_is_solved_whole() -> None:
    values = torch.linspace(-1, 2, 6, dtype=torch.float64)
    found = _found(values)
    assert found.space.is_whole
    assert found.num_hvps == 6
    torch.testing.assert_close(found.ritz.values, values)


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`num_largest` and `num_smallest` must not .* 0 and 0"):
        _found(BULK, num_largest=0, num_smallest=0)
    with pytest.raises(ValueError, match=r"`num_largest` and `num_smallest` must not .* -1 and 3"):
        _found(BULK, num_largest=-1)
    with pytest.raises(
        ValueError, match=r"`max_vectors` must be at least 15 for 7 pairs .* got 14"
    ):
        _found(BULK, max_vectors=14)
    with pytest.raises(ValueError, match=r"`max_hvps` must be at least the block's 4 .* got 3"):
        _found(BULK, max_hvps=3)
