"""The Hessian as an operator that remembers how single batches differ along what it multiplied."""

from __future__ import annotations

from torch import Tensor

from lightning_hessian.hvp.per_batch import AlongVectors, per_batch_products
from lightning_hessian.linalg import check_block
from lightning_hessian.loss import Conductor, TrainingLoss


class PerBatchOperator:
    """``V -> H V`` to the bit as the loss's own exact products, and at their price.

    Of each vector it keeps a few numbers for each batch: what the sampling error of an estimate
    made from these products is read off, without a further product.

    Args:
        loss: Over the frozen batches.
    """

    def __init__(self, loss: TrainingLoss | Conductor) -> None:
        self.size, self.device, self.dtype = loss.size, loss.device, loss.dtype
        self._loss = loss
        self._kept: list[AlongVectors] = []

    def matmat(self, vectors: Tensor) -> Tensor:
        """Multiply a block ``(n, b)``; costs ``b`` HVPs."""
        check_block(vectors, self.size)
        products, table = per_batch_products(self._loss, vectors)
        self._kept.append(table.along)
        return products

    def take(self) -> AlongVectors | None:
        """Hand over what was kept since the last time: along all vectors, in their order."""
        kept, self._kept = self._kept, []
        return AlongVectors.joined(kept) if kept else None
