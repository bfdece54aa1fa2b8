"""An operator that counts what it is asked for."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_hessian.linalg.operator import SymmetricOperator


class CountingOperator:
    """Passes products on, counts and reports them.

    Args:
        operator: Does the work.
        on_products: Told the number of products after each block.
    """

    def __init__(
        self, operator: SymmetricOperator, on_products: Callable[[int], None] | None
    ) -> None:
        self._operator = operator
        self._on_products = on_products
        self.num_products = 0

    @property
    def size(self) -> int:
        """Of the operator."""
        return self._operator.size

    @property
    def device(self) -> torch.device:
        """Of the operator."""
        return self._operator.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the products."""
        return self._operator.dtype

    def matmat(self, vectors: Tensor) -> Tensor:
        """Multiply a block of vectors.

        Args:
            vectors: ``(n, b)``.

        Returns:
            ``(n, b)``.
        """
        products = self._operator.matmat(vectors)
        self.num_products += vectors.shape[1]
        if self._on_products is not None:
            self._on_products(vectors.shape[1])
        return products
