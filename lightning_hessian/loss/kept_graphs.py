"""Gradient graphs of the frozen batches, kept between products as far as memory allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from lightning_hessian.loss.graph_memory import SHARE, free_memory, graph_bytes

FirstDerivatives = Sequence[Tensor | None]
"""Of a batch's weighted loss by each parameter, with their graph; None where it has no part."""


class KeptGraphs:
    """First derivatives with their graphs, by the number of their batch.

    With the graph at hand a product is one second backward pass: 1.3 to 2.5 gradients instead of
    2.3 to 3.8. The memory that a graph holds is measured when it is offered, and it is kept as long
    as all of them stay within the limit.

    Args:
        limit: In bytes; None for a quarter of what is free when the first graph is offered.

    Attributes:
        unsettled: Number of the batch whose graph was offered last and is not settled.
        have_failed: Whether graphs had to be let go of, or could not be looked at.
        reason: Why no graph is kept; None for want of room.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._graphs: dict[int, FirstDerivatives] = {}
        self._is_closed = limit == 0
        self._sizes: dict[int, int] = {}
        self.unsettled: int | None = None
        self.have_failed = False
        self.reason: str | None = None

    @property
    def are_wanted(self) -> bool:
        """Whether another graph may still be kept."""
        return not self._is_closed

    @property
    def num_bytes(self) -> int:
        """That the kept graphs hold."""
        return sum(self._sizes.values())

    def __len__(self) -> int:
        return len(self._graphs)

    def get(self, index: int) -> FirstDerivatives | None:
        """First derivatives of a batch with their graph, if it is kept."""
        return self._graphs.get(index)

    def offer(
        self,
        index: int,
        first: FirstDerivatives,
        others: Sequence[Tensor],
        *,
        compare_state: Callable[[], bool],
    ) -> bool:
        """Keep one more graph for the time being, if there is room; to be settled by the caller.

        Args:
            index: Position among the frozen batches.
            first: With the graph.
            others: That are in memory anyway, a parameter first.
            compare_state: Finds out whether the step has left all state as it was. What it changes,
                a graph may have saved, or read again where activations are recomputed: such a graph
                is of one moment only.
        """
        if self._is_closed:
            return False
        if self._limit is None:
            self._limit = int(SHARE * free_memory(others[0].device))
        self.unsettled = index
        if not compare_state():
            self.reason = (
                "Gradient graphs were not kept between products, as the step changes tensors or "
                "attributes of the module."
            )
            return False
        try:
            size = graph_bytes([t for t in first if t is not None], others)
        except RuntimeError as error:  # what was saved cannot be looked at
            self.have_failed = True
            self.reason = f"Gradient graphs were not kept between products: {error}"
            return False
        if self.num_bytes + size > self._limit:
            return False
        self._graphs[index], self._sizes[index] = first, size
        return True

    def settle(self, *, is_kept: bool) -> None:
        """End an offer: unless all processes have kept theirs, no further graphs are."""
        if not is_kept and self.unsettled is not None:
            self._graphs.pop(self.unsettled, None)
            self._sizes.pop(self.unsettled, None)
            self._is_closed = True
        self.unsettled = None

    def drop(self, reason: str | None = None) -> None:
        """Let go of all graphs; for good where there is a reason, not just other parameters."""
        self._graphs.clear()
        self._sizes.clear()
        self.unsettled = None
        if reason is not None:
            self._is_closed, self.have_failed, self.reason = True, True, reason
