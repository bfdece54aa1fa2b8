"""A diagonal block of an operator against that of its matrix."""

from __future__ import annotations

import pytest
import torch

from lightning_hessian.linalg import (
    BlockOperator,
    CountingOperator,
    DenseOperator,
    leading_eigenvectors,
)
from tests.helpers.spectra import outliers_and_bulk, symmetric_with

MATRIX = symmetric_with(outliers_and_bulk(40))
POSITIONS = [
    torch.arange(40),
    torch.arange(5, 25),
    torch.tensor([30, 2, 17]),
    torch.tensor([39]),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("block", POSITIONS, ids=len)
def test_products_are_those_of_the_block_in_the_order_given(
    block: torch.Tensor, dtype: torch.dtype
) -> None:
    matrix = MATRIX.to(dtype)
    operator = BlockOperator(DenseOperator(matrix), block)
    assert (operator.size, operator.dtype) == (len(block), dtype)
    assert operator.device == torch.device("cpu")
    products = operator.matmat(torch.eye(len(block), dtype=dtype))
    torch.testing.assert_close(products, matrix[block][:, block])
    vectors = torch.arange(2.0 * len(block), dtype=dtype).view(-1, 2)
    wanted = matrix[block][:, block] @ vectors
    # sums of 40 products of norm up to 50 times 80
    limit = 40 * 4000 * torch.finfo(dtype).eps
    torch.testing.assert_close(operator.matmat(vectors), wanted, rtol=0, atol=limit)


def test_one_product_is_one_of_the_whole() -> None:
    whole = CountingOperator(DenseOperator(MATRIX), None)
    BlockOperator(whole, torch.arange(3)).matmat(torch.ones(3, 2).double())
    assert whole.num_products == 2


def test_eigenvalues_lie_within_those_of_the_whole_and_are_the_blocks() -> None:
    block = torch.arange(5, 25)
    found = leading_eigenvectors(
        BlockOperator(DenseOperator(MATRIX), block),
        count=3,
        rtol=1e-9,
        generator=torch.Generator().manual_seed(0),
    ).eigenvalues
    exact = torch.linalg.eigvalsh(MATRIX[block][:, block]).flip(0)
    torch.testing.assert_close(found.values, exact[:3], rtol=0, atol=1e-9)
    whole = torch.linalg.eigvalsh(MATRIX).flip(0)
    assert bool((found.values <= whole[:3]).all())


@pytest.mark.parametrize(
    ("positions", "reason"),
    [
        ([], "`block` must hold at least one position, each once, got 0 of which 0 are different"),
        ([1, 2, 1], "`block` must hold at least one position, each once, got 3 of which 2"),
        ([0, 40], "`block` must hold positions from 0 to 39, got 0 to 40"),
        ([-1, 3], "`block` must hold positions from 0 to 39, got -1 to 3"),
    ],
)
def test_what_is_no_block_is_refused(positions: list[int], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        BlockOperator(DenseOperator(MATRIX), torch.tensor(positions, dtype=torch.long))


@pytest.mark.parametrize("shape", [(3,), (40, 1), (1, 3)])
def test_vectors_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    operator = BlockOperator(DenseOperator(MATRIX), torch.arange(3))
    with pytest.raises(ValueError, match=r"`vectors` must have shape \(3, b\), got"):
        operator.matmat(torch.zeros(shape))
