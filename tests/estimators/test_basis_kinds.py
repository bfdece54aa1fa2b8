"""The sweep with every kind of basis: bounds that hold, and one wait for the device a block."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor

from lightning_hessian.linalg import (
    DenseOperator,
    KrylovSpace,
    RitzPairs,
    block_lanczos,
    rademacher,
)
from lightning_hessian.linalg import basis as basis_module
from lightning_hessian.linalg.basis import BasisKind
from lightning_hessian.linalg.krylov import _norm_bound
from tests.helpers.held_vectors import DiagonalOperator, HeldVectors, Waits
from tests.helpers.spectra import outliers_and_bulk, symmetric_with, various

TYPES = [torch.float32, torch.float64]


def _sweep(
    operator: DenseOperator, dimension: int, *, width: int = 4, seed: int = 0, **options: BasisKind
) -> KrylovSpace:
    generator = torch.Generator().manual_seed(seed)
    width = min(width, operator.size)
    return block_lanczos(
        operator,
        rademacher(operator.size, width, generator=generator, dtype=operator.dtype),
        max_dimension=dimension,
        generator=generator,
        should_stop=lambda space: False,
        **options,
    )


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", ["bfloat16", "cpu"])
def test_an_eigenvalue_lies_within_every_residual_bound(
    kind: BasisKind, dtype: torch.dtype
) -> None:
    for seed in range(30):
        matrix = symmetric_with(various(seed), seed=seed, dtype=dtype)
        exact = torch.linalg.eigvalsh(matrix.double())
        dimension, width = 5 + seed % 7 * 10, 1 + seed % 5
        space = _sweep(DenseOperator(matrix), dimension, width=width, seed=seed, basis=kind)
        ritz = RitzPairs.of(space)
        distance = (ritz.values[:, None] - exact).abs().min(dim=1).values
        reference = 20 * torch.finfo(torch.float64).eps * ritz.scale
        assert bool((distance <= ritz.bounds + reference).all()), seed


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("dimension", [4, 20, 60, 119])
def test_rounded_basis_breaks_the_lanczos_relation_by_no_more_than_it_says(
    dimension: int, dtype: torch.dtype
) -> None:
    matrix = symmetric_with(outliers_and_bulk(120), dtype=dtype)
    space = _sweep(DenseOperator(matrix), dimension, basis="bfloat16")
    q, rounding = space.basis.double(), 100 * torch.finfo(dtype).eps
    assert float((q @ q.T - torch.eye(len(q))).abs().max()) < rounding
    # what is in the space is exact to the arithmetic's rounding
    torch.testing.assert_close(
        q @ matrix.double() @ q.T, space.projection, rtol=0, atol=50 * rounding
    )
    rest = matrix.double() @ q.T - q.T @ space.projection
    assert space.moved is not None
    limit = space.moved + 50 * rounding
    # the last block's remainder is the outflow
    missing = rest[:, :-4].norm(dim=0)
    assert bool((missing <= limit[:-4]).all())
    # and it is no empty bound, as long as there is room for what is missing outside the space
    if dimension == 20:
        assert float((missing / limit[:-4]).median()) > 0.2


def test_eigenvalues_of_a_rounded_basis_are_off_by_the_square_of_its_rounding() -> None:
    values = outliers_and_bulk(400)
    matrix = symmetric_with(values, dtype=torch.float64)
    exact = values.sort(descending=True).values[:5]
    ritz = RitzPairs.of(_sweep(DenseOperator(matrix), 48, basis="bfloat16"))
    error = (ritz.values.flip(0)[:5] - exact).abs()
    # 1.1e-3 squared, times the norm of 50
    assert float(error.max()) < 1e-4
    # while the bounds are of first order
    assert 1e-2 < float(ritz.bounds[-5:].max()) < 0.3


def test_basis_in_chunks_gives_the_same_space(monkeypatch: pytest.MonkeyPatch) -> None:
    operator = DenseOperator(symmetric_with(outliers_and_bulk(200)))
    whole = _sweep(operator, 40)
    monkeypatch.setattr(basis_module, "CHUNK_BYTES", 200 * 8 * 7)
    parts = _sweep(operator, 40)
    first, second = RitzPairs.of(whole), RitzPairs.of(parts)
    converged = first.bounds < 1e-8
    torch.testing.assert_close(first.values[converged], second.values[converged])
    assert int(converged.sum()) >= 5


@pytest.mark.parametrize(("kind", "per_vector"), [("full", 1.0), ("bfloat16", 0.5), ("cpu", 1.0)])
def test_sweep_holds_its_basis_and_few_blocks(
    kind: BasisKind, per_vector: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, dimension, width = 20000, 32, 4
    monkeypatch.setattr(basis_module, "TILE", 500)
    monkeypatch.setattr(basis_module, "CHUNK_BYTES", 8 * 4 * size)
    operator = DiagonalOperator(size)
    with HeldVectors(size, 4) as held:
        generator = torch.Generator().manual_seed(0)
        block_lanczos(
            operator,
            rademacher(size, width, generator=generator),
            max_dimension=dimension,
            generator=generator,
            should_stop=lambda space: False,
            basis=kind,
        )
    # up to Python 3.10 a caller holds what it hands on, here the probes
    probes = width if sys.version_info < (3, 11) else 0
    # the operator's last block, products or remainder, and two of the next block
    assert held.peak <= per_vector * dimension + 4 * width + probes
    assert held.peak >= per_vector * dimension


@pytest.mark.parametrize("kind", ["full", "bfloat16"])
def test_host_waits_for_the_device_once_a_block(
    kind: BasisKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = Waits()

    class OnDevice(DiagonalOperator):
        def matmat(self, vectors: Tensor) -> Tensor:
            return waits.mark(super().matmat(vectors))

    monkeypatch.setattr(Tensor, "cpu", waits.watch_cpu())
    with waits:
        space = _sweep(OnDevice(500), 40, basis=kind)
    assert space.num_blocks == 10
    assert waits.transfers == 10
    assert waits.others == []


@pytest.mark.parametrize("size", [2, 5, 40])
@pytest.mark.parametrize("factor", [1e-200, 1e-9, 1.0, 1e150])
def test_norm_bound_is_above_the_norm_by_little(size: int, factor: float) -> None:
    generator = torch.Generator().manual_seed(size)
    square = factor * torch.randn(size, size, generator=generator, dtype=torch.float64)
    skew = square - square.T
    norm = float(torch.linalg.matrix_norm(skew, 2))
    bound = _norm_bound(skew, negligible=0.0)
    assert norm * (1 - 1e-12) <= bound <= 1.2 * norm
    assert _norm_bound(0 * skew, negligible=0.0) == 0
