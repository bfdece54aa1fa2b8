"""Products of one frozen batch's Hessian with vectors, by graphs that may be kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor

from lightning_hessian.data import FrozenBatches
from lightning_hessian.errors import (
    InterruptedMeasurementError,
    RefusedError,
    RestorationError,
    StaleGraphError,
)
from lightning_hessian.loss.graph import second_derivatives
from lightning_hessian.loss.graph_memory import tensors_in
from lightning_hessian.loss.kept_graphs import FirstDerivatives, KeptGraphs
from lightning_hessian.loss.parameters import ParameterSelection

SAME = 1e-4
"""Of a product's norm, what one by a kept graph may differ by: more than roundings add up to."""

NOT_KEPT = "Gradient graphs were not kept between products"

_NOT_OF_GRAPHS = (
    RefusedError,
    RestorationError,
    InterruptedMeasurementError,
    StaleGraphError,
)


def autocast_to(
    dtype: torch.dtype | None, device_type: str
) -> Callable[[], AbstractContextManager[object]]:
    """A context in which torch computes in a lower type where it finds that fit.

    Args:
        dtype: The lower type; None to leave everything as it is.
        device_type: Where.

    Returns:
        Makes the context.
    """
    if dtype is None:
        return nullcontext
    # its cache would hold casts of parameters that have moved since
    return partial(torch.autocast, device_type, dtype, cache_enabled=False)


class BatchProducts:
    """Multiplies by the Hessians of single batches.

    Args:
        differentiate: Gives the first derivatives of the weighted loss of the batch at a position,
            with their graph.
        parameters: What they are by.
        batches: Whose tensors are in memory anyway.
        graphs: Where graphs are kept for the next time.
        autocast: Context to take derivatives in.
        is_pure: Whether the last evaluation has left all state as it was.
        poll: Called before a kept graph is used; raises if the measurement is to be abandoned.
    """

    def __init__(
        self,
        differentiate: Callable[[int], FirstDerivatives],
        parameters: ParameterSelection,
        batches: FrozenBatches,
        graphs: KeptGraphs,
        autocast: Callable[[], AbstractContextManager[object]],
        is_pure: Callable[[], bool],
        poll: Callable[[], None] | None,
    ) -> None:
        self.graphs = graphs
        self._differentiate = differentiate
        self._parameters = parameters
        self._batches = batches
        self._autocast = autocast
        self._is_pure = is_pure
        self._poll = poll
        self._is_checked = False

    def __call__(
        self, index: int, columns: Sequence[Sequence[Tensor]]
    ) -> Iterator[tuple[Tensor | None, ...]]:
        """Multiply vectors by the Hessian of one batch's weighted loss.

        Args:
            index: Position among the frozen batches.
            columns: Vectors, each in pieces of the parameters' shapes.

        Yields:
            For each vector a piece for each parameter, None where there is no dependence; nothing
            for a batch without a loss.

        Raises:
            StaleGraphError: If memory runs out while graphs are kept, or a kept one does not serve.
            RuntimeError: Of the step or of autograd, while no graph is kept.
        """
        tensors, first = self._parameters.tensors, self.graphs.get(index)
        try:
            if first is None:
                first = self._differentiate(index)
                held = tensors_in(self._batches.batches[index].data)
                is_kept = self.graphs.offer(index, first, [*tensors, *held], is_pure=self._is_pure)
            else:
                is_kept = True
                if self._poll is not None:
                    self._poll()
            with self._autocast():
                yield from second_derivatives(first, tensors, columns, is_kept=is_kept)
        except RuntimeError as error:
            if self._is_of_graphs(error):
                raise StaleGraphError(f"{NOT_KEPT}: {error}") from error
            raise

    def _is_of_graphs(self, error: RuntimeError) -> bool:
        """Whether letting go of the graphs may help."""
        return len(self.graphs) > 0 and not isinstance(error, _NOT_OF_GRAPHS)

    def add_to(self, total: Tensor, index: int, columns: Sequence[Sequence[Tensor]]) -> None:
        """Add one batch's weighted products.

        Args:
            total: ``(b n,)``, the products with one vector after the other.
            index: Position among the frozen batches.
            columns: ``b`` vectors in pieces.
        """
        size = self._parameters.size
        for j, second in enumerate(self(index, columns)):
            self._parameters.add_flat(total[j * size : (j + 1) * size], second, 1.0)

    @property
    def is_unchecked(self) -> bool:
        """Whether a graph is kept of which :meth:`check` has not been asked."""
        return not self._is_checked and self.graphs.get(0) is not None

    def check(self, column: Sequence[Tensor]) -> None:
        """Compare what the first batch's kept graph gives with what a fresh one does.

        A step that changes in place, past autograd's notice, what the graph has saved is so found.

        Args:
            column: A vector in pieces.

        Raises:
            StaleGraphError: If they differ by more than roundings, or memory runs out.
            RuntimeError: Of the step or of autograd, while no graph is kept.
        """
        self._is_checked = True
        size = self._parameters.size
        kept, fresh = torch.zeros(
            2, size, dtype=torch.float64, device=self._parameters.tensors[0].device
        )
        try:
            self.add_to(kept, 0, [column])
            first = self._differentiate(0)
            with self._autocast():
                for second in second_derivatives(first, self._parameters.tensors, [column]):
                    self._parameters.add_flat(fresh, second, 1.0)
        except RuntimeError as error:
            if self._is_of_graphs(error):
                raise StaleGraphError(f"{NOT_KEPT}: {error}") from error
            raise
        if float((kept - fresh).norm()) > SAME * float(fresh.norm()):
            raise StaleGraphError(f"{NOT_KEPT}: the step changes what they hold.")
