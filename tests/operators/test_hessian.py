"""A training loss's products are its Hessian as an operator, which checks the shape."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lightning_hessian.hvp import DifferenceProducts, ExactProducts
from tests.helpers.losses import opened

DIAGONAL = torch.arange(1.0, 4.0, dtype=torch.float64)


class Bowl(nn.Module):
    """``1/2 w^T D w`` with the Hessian ``D = diag(1, 2, 3)``."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(3))

    def step(self, _: object) -> Tensor:
        return 0.5 * (DIAGONAL * self.weights.square()).sum()


def test_products_are_the_functions() -> None:
    bowl = Bowl()
    with opened(bowl, bowl.step) as loss:
        operator = loss.products
        assert (operator.size, operator.device, operator.dtype) == (3, loss.device, torch.float64)
        products = operator.matmat(torch.eye(3, dtype=torch.float64))
    assert torch.equal(products, torch.diag(DIAGONAL))


@pytest.mark.parametrize("kind", [ExactProducts, DifferenceProducts])
@pytest.mark.parametrize("shape", [(3,), (4, 1), (1, 3)])
def test_what_is_not_a_block_of_columns_is_refused(
    shape: tuple[int, ...], kind: type[ExactProducts] | type[DifferenceProducts]
) -> None:
    bowl = Bowl()

    with (
        opened(bowl, bowl.step) as loss,
        pytest.raises(ValueError, match=r"`vectors` must have shape \(3, b\), got"),
    ):
        kind(loss).matmat(torch.zeros(shape))
