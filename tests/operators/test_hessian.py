"""The Hessian operator passes a function's products on and checks the shape."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_hessian.hvp import HessianOperator


class Bowl:
    """``1/2 w^T D w`` with the Hessian ``D = diag(1, 2, 3)``."""

    size = 3
    device = torch.device("cpu")
    dtype = torch.float64

    def hessian_products(self, vectors: Tensor) -> Tensor:
        return torch.arange(1.0, 4.0, dtype=torch.float64)[:, None] * vectors


def test_products_are_the_functions() -> None:
    operator = HessianOperator(Bowl())
    assert (operator.size, operator.device, operator.dtype) == (3, Bowl.device, torch.float64)
    products = operator.matmat(torch.eye(3, dtype=torch.float64))
    assert torch.equal(products, torch.diag(torch.arange(1.0, 4.0, dtype=torch.float64)))


@pytest.mark.parametrize("shape", [(3,), (4, 1), (1, 3)])
def test_what_is_not_a_block_of_columns_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"`vectors` must have shape \(3, b\), got"):
        HessianOperator(Bowl()).matmat(torch.zeros(shape))
