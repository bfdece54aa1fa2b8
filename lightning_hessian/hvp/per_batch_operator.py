"""The Hessian as an operator that remembers how single batches differ along what it multiplied."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_hessian.hvp.per_batch import AlongVectors, PerBatch, per_batch_products
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


SKETCH = 64
"""Numbers that each batch's products are folded to."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CrossedForms:
    """The Hessian ``H_b`` of each of ``B`` batches between ``k`` vectors; on the CPU in float64.

    Attributes:
        along: The Hessian along each vector.
        forms: ``(B, k, k)`` ``v_i . H_b v_j``, symmetric.
        sketches: ``(B, s, k)`` ``S H_b v_j`` of a random ``S`` with ``E |S x|^2 = |x|^2``.
    """

    along: AlongVectors
    forms: Tensor
    sketches: Tensor


class CrossedOperator:
    """As :class:`PerBatchOperator`, and remembers what batches do between all vectors multiplied.

    From that the Hessian of each batch is known on the space that they span, whatever is found in
    it later. Holds the vectors, for a few of them.

    Args:
        loss: Over the frozen batches.
    """

    def __init__(self, loss: TrainingLoss | Conductor) -> None:
        self.size, self.device, self.dtype = loss.size, loss.device, loss.dtype
        self._loss = loss
        self._vectors: list[Tensor] = []
        self._kept: list[PerBatch] = []

    def matmat(self, vectors: Tensor) -> Tensor:
        """Multiply a block ``(n, b)``; costs ``b`` HVPs."""
        check_block(vectors, self.size)
        earlier = torch.cat(self._vectors, dim=1) if self._vectors else None
        products, table = per_batch_products(self._loss, vectors, beside=earlier, sketch=SKETCH)
        self._vectors.append(vectors)
        self._kept.append(table)
        return products

    def take(self) -> CrossedForms:
        """Hand over what was kept, at least one product, and let go of the vectors."""
        kept, self._kept, self._vectors = self._kept, [], []
        count = sum(table.forms.shape[2] for table in kept)
        forms = torch.zeros(len(kept[0].forms), count, count, dtype=torch.float64)
        start = 0
        for table in kept:
            stop = start + table.forms.shape[2]
            forms[:, start:stop, start:stop] = 0.5 * (table.forms + table.forms.mT)
            if table.beside is not None:
                forms[:, :start, start:stop] = table.beside
                forms[:, start:stop, :start] = table.beside.mT
            start = stop
        return CrossedForms(
            along=AlongVectors.joined([table.along for table in kept]),
            forms=forms,
            sketches=torch.cat([t.sketches for t in kept if t.sketches is not None], dim=2),
        )
