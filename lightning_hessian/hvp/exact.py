"""Hessian-vector products by differentiating twice, with graphs that may be kept in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from lightning_hessian.errors import (
    InterruptedMeasurementError,
    RefusedError,
    RestorationError,
    StaleGraphError,
)
from lightning_hessian.linalg import check_block
from lightning_hessian.loss import (
    FirstDerivatives,
    KeptGraphs,
    TrainingLoss,
    second_derivatives,
    tensors_in,
)
from lightning_hessian.processes import any_process, on_all_or_none
from lightning_hessian.records import EXACT, Note, ProductQuality

SAME = 1e-4
"""Of a product's norm, what one by a kept graph may differ by: more than roundings add up to."""

NOT_KEPT = "Gradient graphs were not kept between products"

_NOT_OF_GRAPHS = (
    RefusedError,
    RestorationError,
    InterruptedMeasurementError,
    StaleGraphError,
)


@dataclass(slots=True)
class GraphTrust:
    """Whether kept graphs were once compared with fresh ones."""

    is_checked: bool = False


class ExactProducts:
    """``H v = d/dw (dL/dw . v)`` by a second backward through the graph of the first.

    Exact up to rounding. A block of ``b`` vectors costs one forward, one backward and ``b`` second
    backwards, as all share the first two; where the graph of the first derivatives was kept from
    an earlier product, the second backwards alone.

    Args:
        loss: Whose Hessian.
        graph_memory: Bytes that kept graphs may take; 0 for none, None for a quarter of what is
            free.
        autocast: Lower type that step and derivatives compute in where torch's autocast finds it
            fit.
        trust: Shared by the losses of one module, of which one checks for all whether graphs serve.
    """

    def __init__(
        self,
        loss: TrainingLoss,
        *,
        graph_memory: int | None = None,
        autocast: torch.dtype | None = None,
        trust: GraphTrust | None = None,
    ) -> None:
        self.graphs = KeptGraphs(graph_memory)
        self._loss = loss
        self._autocasts = autocast is not None
        self._autocast = _autocast_to(autocast, loss.device.type)
        self._trust = trust or GraphTrust()

    @property
    def size(self) -> int:
        """Number of parameters, ``n``."""
        return self._loss.size

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self._loss.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the products."""
        return self._loss.dtype

    @property
    def quality(self) -> ProductQuality:
        """Exact, with a word on graphs that had to be let go of."""
        reason = self.graphs.reason if self.graphs.have_failed else None
        if reason is None:
            return EXACT
        return replace(EXACT, notes=(Note("graphs-not-kept", reason),))

    @property
    def graph_bytes(self) -> int:
        """That the kept graphs hold."""
        return self.graphs.num_bytes

    def forget(self) -> None:
        """Let go of the graphs."""
        self.graphs.drop()

    def matmat(self, vectors: Tensor) -> Tensor:
        """Multiply a block of vectors ``(n, b)``; costs ``b`` HVPs.

        Raises:
            ValueError: If the shape does not fit.
            NoExactProductsError: If an operation has no second derivative.
            RefusedError: If there is no loss.
            NonFiniteError: If the loss or the gradient is not finite.
        """
        check_block(vectors, self.size)
        count, total_weight = vectors.shape[1], self._loss.weigh()
        columns = self._loss.columns_of(vectors)

        def add(total: Tensor, index: int) -> None:
            self._add_to(total, index, columns)

        self.check_graphs(columns[0])
        total = self.sum_over_batches(count * self.size, add)
        total /= total_weight
        return total.view(count, self.size).to(self.dtype).T

    def sum_over_batches(self, length: int, add: Callable[[Tensor, int], None]) -> Tensor:
        """Sum a vector ``(length,)`` over the batches, of what is computed of each.

        Where kept graphs turn out not to serve, or memory runs out beside them, all is computed
        once more with fresh ones.
        """
        loss = self._loss

        def guarded(total: Tensor, index: int) -> None:
            with self._blaming_graphs():
                add(total, index)

        try:
            return loss.sum_over_batches(length, guarded, after_each=self._settle)
        except StaleGraphError as error:
            self.graphs.drop(str(error))
            return loss.sum_over_batches(length, add, after_each=self._settle)

    def check_graphs(self, column: Sequence[Tensor]) -> None:
        """Compare what the first batch's kept graph gives with what a fresh one does, once."""
        if self._trust.is_checked or self.graphs.get(0) is None:
            return
        try:
            on_all_or_none(self._loss.processes, partial(self._check, column))
        except StaleGraphError as error:
            self.graphs.drop(str(error))

    def differentiate(self, index: int, weighted: Tensor) -> Sequence[Tensor | None]:
        """First derivatives of a batch's weighted loss, whose graph is kept if there is room."""
        tensors = self._loss.parameters.tensors
        if self._autocasts or not self.graphs.are_wanted or self.graphs.get(index) is not None:
            return torch.autograd.grad(weighted, tensors, allow_unused=True)
        first = torch.autograd.grad(weighted, tensors, create_graph=True, allow_unused=True)
        self._offer(index, first)
        return [None if g is None else g.detach() for g in first]

    def of_batch(
        self, index: int, columns: Sequence[Sequence[Tensor]]
    ) -> Iterator[tuple[Tensor | None, ...]]:
        """Multiply vectors, in pieces of the parameters' shapes, by one batch's weighted Hessian.

        Yields:
            For each vector a piece for each parameter, None where there is no dependence; nothing
            for a batch without a loss.
        """
        loss = self._loss
        tensors, first = loss.parameters.tensors, self.graphs.get(index)
        if first is None:
            first = self._differentiate(index)
            is_kept = self._offer(index, first)
        else:
            is_kept = True
            loss.poll()
        with self._autocast():
            yield from second_derivatives(first, tensors, columns, is_kept=is_kept)

    def _offer(self, index: int, first: FirstDerivatives) -> bool:
        loss = self._loss
        others = [*loss.parameters.tensors, *tensors_in(loss.sample.batches[index].data)]
        return self.graphs.offer(index, first, others, compare_state=loss.compare_state)

    def _differentiate(self, index: int) -> FirstDerivatives:
        """First derivatives of a batch's weighted loss, with their graph."""
        batch, tensors = self._loss.sample.batches[index], self._loss.parameters.tensors
        with self._autocast():
            loss = self._loss.evaluate(batch)
        if loss is None or not loss.requires_grad:
            return [None] * len(tensors)
        # the loss is weighted, not its derivatives: where a step exchanges tensors, the derivative
        # at this process's parameters is of the sum of all processes' losses
        weighted = batch.weight * loss
        with self._autocast():
            return torch.autograd.grad(weighted, tensors, create_graph=True, allow_unused=True)

    def _add_to(self, total: Tensor, index: int, columns: Sequence[Sequence[Tensor]]) -> None:
        """Add one batch's weighted products, ``(b n,)``: one vector's after the other's."""
        for j, second in enumerate(self.of_batch(index, columns)):
            self._loss.parameters.add_flat(total[j * self.size :][: self.size], second, 1.0)

    def _settle(self, index: int) -> None:
        """Keep a graph that was offered on all processes, or on none.

        A step that exchanges tensors runs on each or on none.
        """
        if self.graphs.unsettled is not None:
            is_lost = self.graphs.get(index) is None
            self.graphs.settle(is_kept=not any_process(self._loss.processes, is_lost))

    def _check(self, column: Sequence[Tensor]) -> None:
        """A step that changes in place, past autograd's notice, what a graph has saved is found."""
        self._trust.is_checked = True
        parameters = self._loss.parameters
        kept, fresh = torch.zeros(2, self.size, dtype=torch.float64, device=self.device)
        with self._blaming_graphs():
            self._add_to(kept, 0, [column])
            first = self._differentiate(0)
            with self._autocast():
                for second in second_derivatives(first, parameters.tensors, [column]):
                    parameters.add_flat(fresh, second, 1.0)
        if float((kept - fresh).norm()) > SAME * float(fresh.norm()):
            raise StaleGraphError(f"{NOT_KEPT}: the step changes what they hold.")

    @contextmanager
    def _blaming_graphs(self) -> Iterator[None]:
        """What fails while graphs are kept is tried once more without: a stale graph stands for it.

        Raises:
            StaleGraphError: If memory runs out, or a kept graph does not serve.
        """
        try:
            yield
        except RuntimeError as error:
            if len(self.graphs) == 0 or isinstance(error, _NOT_OF_GRAPHS):
                raise
            raise StaleGraphError(f"{NOT_KEPT}: {error}") from error


def _autocast_to(
    dtype: torch.dtype | None, device_type: str
) -> Callable[[], AbstractContextManager[object]]:
    """A context in which torch computes in a lower type where it finds that fit."""
    if dtype is None:
        return nullcontext
    # its cache would hold casts of parameters that have moved since
    return partial(torch.autocast, device_type, dtype, cache_enabled=False)
