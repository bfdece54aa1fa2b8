"""The two parts of a loss's Hessian: by its curvature in the outputs, and by the outputs' own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from lightning_hessian.hvp.loss_outputs import LossOutputs
from lightning_hessian.hvp.output_jacobian import CutBatch
from lightning_hessian.linalg import check_block
from lightning_hessian.loss import Conductor, TrainingLoss


class GaussNewtonOperator:
    """``V -> H0 V``, ``H0 = (1/N) sum J^T (d^2 l / dz^2) J``: the Gauss-Newton part of the Hessian.

    ``J = dz/dw`` is that of the outputs ``z``, ``l(z)`` what the rest of the step makes of them.
    Several outputs, and losses of several, count together. ``H0`` is positive semi-definite where
    ``l`` is convex in ``z``, as each known loss is.

    A block of ``b`` vectors costs a forward and two backward passes, and ``b`` times some two
    gradients more; nothing is kept between products.

    Args:
        loss: Over the frozen batches.
        outputs: Of :func:`find_outputs`.
    """

    def __init__(self, loss: TrainingLoss | Conductor, outputs: LossOutputs) -> None:
        self.size, self.device, self.dtype = loss.size, loss.device, loss.dtype
        self._loss = loss
        self._by_marks = outputs.by_marks

    def matmat(self, vectors: Tensor) -> Tensor:
        """Multiply a block ``(n, b)``."""
        check_block(vectors, self.size)
        return self._loss.run_on_all(partial(_products, by_marks=self._by_marks), vectors)


class ResidualOperator:
    """``V -> H1 V``, ``H1 = H - H0``: the outputs' own curvature, weighted by ``dl/dz``.

    What the loss has past its outputs is in it. A product is one of ``H`` and one of ``H0``.

    Args:
        loss: Over the frozen batches.
        outputs: Of :func:`find_outputs`.
    """

    def __init__(self, loss: TrainingLoss | Conductor, outputs: LossOutputs) -> None:
        self.size, self.device, self.dtype = loss.size, loss.device, loss.dtype
        self._loss = loss
        self._gauss_newton = GaussNewtonOperator(loss, outputs)

    def matmat(self, vectors: Tensor) -> Tensor:
        """Multiply a block ``(n, b)``."""
        check_block(vectors, self.size)
        return self._loss.products.matmat(vectors) - self._gauss_newton.matmat(vectors)


def _products(loss: TrainingLoss, vectors: Tensor, *, by_marks: bool) -> Tensor:
    """``H0 V`` over all batches, ``(n, b)``."""
    count, total_weight = vectors.shape[1], loss.weigh()
    columns = loss.columns_of(vectors)
    add = partial(_add_products, loss, by_marks, columns)
    total = loss.sum_over_batches(count * loss.size, add) / total_weight
    return total.view(count, loss.size).to(loss.dtype).T


def _add_products(
    loss: TrainingLoss,
    by_marks: bool,
    columns: Sequence[Sequence[Tensor]],
    total: Tensor,
    index: int,
) -> None:
    """Add one batch's weighted products, ``(b n,)``: one vector's after the other's."""
    batch = loss.sample.batches[index]
    cut = CutBatch(loss, batch, by_marks=by_marks)
    if not cut.outputs:
        return
    for j, tangents in enumerate(cut.along(columns)):
        pieces = cut.transposed(cut.bent(tangents))
        loss.parameters.add_flat(total[j * loss.size :][: loss.size], pieces, batch.weight)
