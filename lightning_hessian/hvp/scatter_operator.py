"""The Hessian as an operator that remembers how single batches differ along what it multiplied."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from lightning_hessian.hvp.hessian_operator import HessianOperator
from lightning_hessian.hvp.product_scatter import ColumnScatter, scattered_products
from lightning_hessian.linalg import check_block
from lightning_hessian.loss import Conductor, TrainingLoss


class ScatterOperator(HessianOperator):
    """``V -> H V`` to the bit as :class:`HessianOperator`, and at its price.

    Of each vector it keeps a few numbers for each batch: what the sampling error of an estimate
    made from these products is read off, without a further product.

    Args:
        loss: Over the frozen batches.
    """

    def __init__(self, loss: TrainingLoss | Conductor) -> None:
        super().__init__(loss)
        self._loss = loss
        self._kept: list[ColumnScatter] = []

    @override
    def matmat(self, vectors: Tensor) -> Tensor:
        """Multiply a block of vectors; costs ``b`` HVPs.

        Args:
            vectors: ``(n, b)``.

        Returns:
            ``(n, b)``.

        Raises:
            ValueError: If the shape does not fit.
        """
        check_block(vectors, self.size)
        products, scatter = scattered_products(self._loss, vectors)
        self._kept.append(scatter.columns)
        return products

    def take(self) -> ColumnScatter | None:
        """Hand over what was kept since the last time.

        Returns:
            Along all vectors multiplied since, in their order; None if there were none.
        """
        kept, self._kept = self._kept, []
        return ColumnScatter.joined(kept) if kept else None
