"""The storage of a basis: the same vectors whatever the kind, the chunk and the tile."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor

from lightning_hessian.linalg import DenseOperator
from lightning_hessian.linalg import basis as basis_module
from lightning_hessian.linalg.basis import (
    BASIS_KINDS,
    Basis,
    BasisKind,
    FullBasis,
    make_basis,
    vector_bytes,
)

SIZE = 500
TYPES = [torch.float32, torch.float64]


def _orthonormal(count: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    gaussian = torch.randn(SIZE, count, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(gaussian)[0].T.to(dtype)


def _filled(kind: BasisKind, dtype: torch.dtype, blocks: int = 5) -> Basis:
    operator = DenseOperator(torch.eye(SIZE, dtype=dtype))
    basis = make_basis(kind, operator, capacity=24)
    for block in _orthonormal(4 * blocks, dtype).split(4):
        rest = block.clone()
        # of a rounded basis the next block is orthogonal to what is stored
        basis.project_out(rest)
        basis.append(torch.linalg.qr(rest.T)[0].T.contiguous())
    return basis


@pytest.fixture(params=["one chunk", "many chunks"])
def chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "many chunks":
        monkeypatch.setattr(basis_module, "CHUNK_BYTES", 6 * 4 * SIZE)
        monkeypatch.setattr(basis_module, "TILE", 64)


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", BASIS_KINDS)
def test_every_kind_stands_for_orthonormal_vectors(kind: BasisKind, dtype: torch.dtype) -> None:
    basis = _filled(kind, dtype)
    limit = 50 * torch.finfo(dtype).eps
    rows = basis.rows()
    assert rows.shape == (len(basis), SIZE) == (20, SIZE)
    assert float((rows @ rows.T - torch.eye(20, dtype=dtype)).abs().max()) < limit
    # all products are with these rows
    vectors = torch.randn(3, SIZE, generator=torch.Generator().manual_seed(1), dtype=dtype)
    shared = basis.components(vectors)
    torch.testing.assert_close(shared, rows @ vectors.T, rtol=0, atol=20 * limit)
    rest = basis.without(vectors.T.contiguous().T, shared)
    assert rest.is_contiguous()
    torch.testing.assert_close(rest, vectors - shared.T @ rows, rtol=0, atol=20 * limit)
    in_place = vectors.clone()
    removed = basis.project_out(in_place)
    assert float((rows @ in_place.T).abs().max()) < 20 * limit
    torch.testing.assert_close(in_place + removed.to(dtype).T @ rows, vectors, rtol=0, atol=1e-5)
    torch.testing.assert_close(basis.combine(shared), rows.T @ shared, rtol=0, atol=20 * limit)


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("dtype", TYPES)
def test_rotation_makes_the_combinations_in_place(dtype: torch.dtype) -> None:
    basis = _filled("full", dtype)
    assert isinstance(basis, FullBasis)
    gaussian = torch.randn(20, 7, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    coordinates = torch.linalg.qr(gaussian)[0]
    expected = coordinates.T @ basis.rows().double()
    basis.rotate(coordinates)
    assert len(basis) == 7
    limit = 50 * torch.finfo(dtype).eps
    torch.testing.assert_close(basis.rows().double(), expected, rtol=0, atol=limit)
    # and goes on growing
    block = _orthonormal(24, dtype)[20:].clone()
    basis.append(block)
    assert len(basis) == 11
    torch.testing.assert_close(basis.rows()[7:], block)


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("kind", BASIS_KINDS)
def test_head_is_not_touched_by_what_comes_later(kind: BasisKind) -> None:
    basis = _filled(kind, torch.float64, blocks=3)
    first = basis.head(8)
    before = first.rows().clone()
    rest = _orthonormal(24, torch.float64)[20:].clone()
    basis.project_out(rest)
    basis.append(torch.linalg.qr(rest.T)[0].T.contiguous())
    assert len(first) == 8
    assert len(basis) == 16
    assert torch.equal(first.rows(), before)
    torch.testing.assert_close(basis.rows()[:8], before)


def test_rounding_moves_a_unit_vector_by_a_thousandth_and_says_so() -> None:
    basis = make_basis("bfloat16", DenseOperator(torch.eye(SIZE)), capacity=24)
    for block in _orthonormal(20, torch.float32).split(4):
        basis.project_out(block)
        moved = basis.append(block)
        assert float(basis.drift) == pytest.approx(float((moved - block).norm()), rel=1e-3)
        # 8 bits: uniform relative errors up to 2^-9, of four vectors together
        assert 1e-3 < float(basis.drift) / 2 < 2e-3


def test_memory_of_a_vector_is_that_of_its_kind() -> None:
    double = DenseOperator(torch.eye(3, dtype=torch.float64))
    assert vector_bytes("full", double) == vector_bytes("cpu", double) == 24
    assert vector_bytes("bfloat16", double) == 6


def test_unknown_kind_is_refused() -> None:
    kind = cast("BasisKind", "float8")
    with pytest.raises(ValueError, match=r"`basis` must be one of 'full', .* got 'float8'"):
        make_basis(kind, DenseOperator(torch.eye(3)), capacity=3)


def test_inner_products_of_long_vectors_are_those_of_short_ones() -> None:
    # one product over all entries is off by more than 1e-5 here
    vectors = torch.randn(4, 400_000, generator=torch.Generator().manual_seed(0))
    exact = vectors.double() @ vectors.double().T
    error = (basis_module.inner_products(vectors, vectors) - exact).abs().max()
    assert float(error) < 1e-6 * 400_000
