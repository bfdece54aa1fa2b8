"""The training loss over the frozen batches as a function of the parameters, with derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from lightning_hessian.errors import NonFiniteError, StaleGraphError
from lightning_hessian.loss.batch_losses import BatchLosses
from lightning_hessian.loss.batch_products import BatchProducts
from lightning_hessian.loss.gradient import Gradient, refuse_unusable
from lightning_hessian.loss.kept_graphs import FirstDerivatives
from lightning_hessian.processes import on_all_or_none
from lightning_hessian.records import EXACT, ProductQuality

T = TypeVar("T")


class TrainingLoss(BatchLosses):
    """``L(w) = sum_b (n_b / N) L_b(w)`` over the frozen batches ``b`` of weight ``n_b``.

    For a loss that is a mean over samples, the true batch sizes as weights make ``L`` independent
    of how the samples are batched. A batch whose step returns None has no weight. Derivatives are
    taken by reverse mode, twice, with respect to the module's real parameters; sums over batches
    are in float64. A gradient costs one gradient unit, a block of ``b`` products one forward, one
    backward and ``b`` second backwards; where the graph of the first derivatives was kept from an
    earlier product, the second backwards alone.

    Several processes share the batches. Each method that sums over batches is then called on all of
    them at the same time, gives the same on each, and raises on all what fails on one.

    Args:
        arguments: As :class:`BatchLosses`.
        options: As :class:`BatchLosses`.

    Attributes:
        held_out: The same loss over samples that training does not see, if there are any.
        rough: The same loss with faster products of fewer digits, if asked for.
    """

    held_out: TrainingLoss | None = None
    rough: TrainingLoss | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.batch_products = BatchProducts(
            self._differentiate,
            self.parameters,
            self.batches,
            self.graphs,
            self._autocast,
            lambda: self._sandbox.is_unchanged,
            self._poll,
        )
        # positions of batches that training would skip, and the weight of the others: not known
        # before the first gradient
        self.skipped: set[int] = set()
        self._total_weight = 0.0

    @property
    def products(self) -> ProductQuality:
        """How :meth:`hessian_products` is made, and what it is off by as far as is known now."""
        reason = self.graphs.reason if self.graphs.have_failed else None
        return EXACT if reason is None else replace(EXACT, notes=(reason,))

    def gradient(self) -> Gradient:
        """Loss and gradient over all frozen batches; costs one gradient unit.

        Returns:
            Both in float64, with the names of the parameters that get no gradient.

        Raises:
            RefusedError: If every batch is skipped, or no parameter gets a gradient.
            NonFiniteError: If the loss or the gradient is not finite.
        """
        end = self.size
        payload = self.sum_over_batches(end + 2 + len(self.parameters.names), self._add_gradient)
        total, total_weight = float(payload[end]), float(payload[end + 1])
        used = (payload[end + 2 :] > 0).tolist()
        refuse_unusable(
            total_weight, used, self.parameters.names, num_batches=len(self.batches.batches)
        )
        vector = payload[:end] / total_weight
        if not bool(vector.isfinite().all()):
            raise NonFiniteError(
                "the gradient of the training loss must be finite, but it holds NaN or infinity "
                "while the loss is finite. Look for a square root or a logarithm at zero."
            )
        self._total_weight = total_weight
        names = zip(self.parameters.names, used, strict=True)
        return Gradient(
            loss=total / total_weight,
            vector=vector,
            unused=tuple(name for name, is_used in names if not is_used),
        )

    @property
    def total_weight(self) -> float:
        """Of the batches that are not skipped; costs a gradient the first time.

        Its errors are those of :meth:`gradient`.
        """
        if self._total_weight == 0:
            self.gradient()
        return self._total_weight

    def hessian_products(self, vectors: Tensor) -> Tensor:
        """Multiply a block of vectors by the Hessian of ``L``.

        Exact up to rounding: ``H v = d/dw (dL/dw . v)`` by a second backward through the graph of
        the first, which all vectors of the block share.

        Args:
            vectors: ``(n, b)``.

        Returns:
            ``(n, b)`` in the objective's type; columns are contiguous.

        Raises:
            NoExactProductsError: If an operation has no second derivative.
            RefusedError: If there is no loss.
            NonFiniteError: If the loss or the gradient is not finite.
        """
        count, total_weight = vectors.shape[1], self.total_weight
        columns = self.columns_of(vectors)

        def add(total: Tensor, index: int) -> None:
            self.batch_products.add_to(total, index, columns)

        total = self.sum_of_products(columns, count * self.size, add)
        total /= total_weight
        return total.view(count, self.size).to(self.dtype).T

    def sum_of_products(
        self, columns: list[list[Tensor]], length: int, add: Callable[[Tensor, int], None]
    ) -> Tensor:
        """Sum over the frozen batches what :attr:`batch_products` gives of them.

        Where kept graphs turn out not to serve, all is computed once more with fresh ones.

        Args:
            columns: Vectors in pieces.
            length: Of the sum.
            add: As for :meth:`sum_over_batches`.

        Returns:
            ``(length,)`` float64, the same on all processes.
        """
        try:
            if self.batch_products.is_unchecked:
                on_all_or_none(self.processes, partial(self.batch_products.check, columns[0]))
            return self.sum_over_batches(length, add)
        except StaleGraphError as error:
            self.graphs.drop(str(error))
            return self.sum_over_batches(length, add)

    def run_on_all(self, compute: Callable[..., T], *tensors: Tensor) -> T:
        """Compute something from this loss: what a conductor lets all processes do at once.

        Args:
            compute: Takes a :class:`TrainingLoss` and the tensors.
            tensors: Passed on.

        Returns:
            What it gives.
        """
        return compute(self, *tensors)

    def _add_gradient(self, payload: Tensor, index: int) -> None:
        """Add a batch's weighted gradient, weighted loss, weight, and which parameters are used."""
        loss = self.evaluate_batch(index)
        if loss is None:
            self.skipped.add(index)
            return
        end, weight = self.size, self.batches.batches[index].weight
        payload[end] += weight * loss.detach().double()
        payload[end + 1] += weight
        if loss.requires_grad:
            pieces = self._first_derivatives(weight * loss)
            self.parameters.add_flat(payload[:end], pieces, 1.0)
            payload[end + 2 :] += torch.tensor([p is not None for p in pieces]).to(payload)

    def _differentiate(self, index: int) -> FirstDerivatives:
        """First derivatives of a batch's weighted loss, with their graph."""
        loss = self.evaluate_batch(index)
        tensors = self.parameters.tensors
        if loss is None or not loss.requires_grad:
            return [None] * len(tensors)
        # the loss is weighted, not its derivatives: where a step exchanges tensors, the derivative
        # at this process's parameters is of the sum of all processes' losses
        weighted = self.batches.batches[index].weight * loss
        with self._autocast():
            return torch.autograd.grad(weighted, tensors, create_graph=True, allow_unused=True)

    def _first_derivatives(self, loss: Tensor) -> Sequence[Tensor | None]:
        """By the selected parameters, of a batch's loss whose graph is not needed any more."""
        return torch.autograd.grad(loss, self.parameters.tensors, allow_unused=True)
