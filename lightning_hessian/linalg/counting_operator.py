"""An operator that counts what it is asked for."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from lightning_hessian.linalg.operator import SymmetricOperator


class CountingOperator:
    """Passes products on and counts them.

    Args:
        operator: Does the work.
        on_products: Told the number of products after each block.

    Attributes:
        num_products: So far.

    Example:
        >>> import torch
        >>> from lightning_hessian.linalg import DenseOperator, leading_eigenvectors
        >>> counted = CountingOperator(DenseOperator(torch.eye(50)))
        >>> pairs = leading_eigenvectors(counted, count=1, generator=torch.Generator())
        >>> counted.num_products == pairs.num_hvps
        True
    """

    def __init__(
        self, operator: SymmetricOperator, on_products: Callable[[int], None] | None = None
    ) -> None:
        self._operator = operator
        self._on_products = on_products
        self.size, self.device, self.dtype = operator.size, operator.device, operator.dtype
        self.num_products = 0

    def matmat(self, vectors: Tensor) -> Tensor:
        """Multiply a block of vectors ``(n, b)``."""
        products = self._operator.matmat(vectors)
        self.num_products += vectors.shape[1]
        if self._on_products is not None:
            self._on_products(vectors.shape[1])
        return products
