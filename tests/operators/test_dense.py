"""The dense reference operator: products, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from lightning_hessian.linalg import DenseOperator
from tests.helpers.spectra import power_law, symmetric_with


def test_products_are_those_of_the_matrix() -> None:
    matrix = symmetric_with(power_law(20))
    operator = DenseOperator(matrix)
    assert torch.equal(operator.matmat(torch.eye(20, dtype=torch.float64)), matrix)
    assert (operator.size, operator.dtype, operator.device) == (20, matrix.dtype, matrix.device)


@pytest.mark.parametrize("shape", [(2, 3), (3,), (0, 0), (2, 2, 2)])
def test_matrix_that_is_not_square_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"`matrix` must be square, \(n, n\), got"):
        DenseOperator(torch.zeros(shape))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matrix_that_is_not_symmetric_is_refused(dtype: torch.dtype) -> None:
    matrix = torch.eye(3, dtype=dtype)
    matrix[0, 1] = 1e-3
    with pytest.raises(ValueError, match=r"must be symmetric, got a largest \|A - A\^T\| of 0.001"):
        DenseOperator(matrix)


def test_asymmetry_of_a_rounding_is_accepted() -> None:
    matrix = symmetric_with(power_law(20), dtype=torch.float32)
    matrix[0, 1] *= 1 + 1e-7
    assert DenseOperator(matrix).size == 20


@pytest.mark.parametrize("shape", [(5,), (4, 2), (2, 5), (5, 1, 1)])
def test_what_is_not_a_block_of_columns_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"`vectors` must have shape \(5, b\), got .* block of one"
    ):
        DenseOperator(torch.eye(5)).matmat(torch.zeros(shape))
