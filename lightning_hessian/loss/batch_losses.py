"""The loss of each frozen batch at the present parameters, and sums over the batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lightning_hessian.data import FrozenBatch, FrozenBatches
from lightning_hessian.errors import NonFiniteError, RefusedError
from lightning_hessian.loss.batch_products import autocast_to
from lightning_hessian.loss.kept_graphs import KeptGraphs
from lightning_hessian.loss.parameters import ParameterSelection
from lightning_hessian.processes import Processes, SingleProcess, any_process, on_all_or_none
from lightning_hessian.sandbox import Sandbox

BatchLoss = Callable[[Any, int], Tensor | None]
"""The loss of one frozen batch with its graph, or None for a batch that training would skip."""


class BatchLosses:
    """Evaluates the step on frozen batches, always from the same state.

    Args:
        batch_loss: The loss of one batch.
        batches: The frozen sample, or this process's share of it.
        parameters: What to differentiate by.
        sandbox: Entered by the caller; reset before each evaluation.
        poll: Called before each evaluation; raises if the measurement is to be abandoned.
        processes: That share the batches, equally many each.
        name: Which loss of the module it is; None for that of its ``training_step``.
        graph_memory: Bytes that kept graphs may take; 0 for none, None for a quarter of what is
            free.
        autocast: Lower type that the step computes in where torch's autocast finds it fit.
    """

    def __init__(
        self,
        batch_loss: BatchLoss,
        batches: FrozenBatches,
        parameters: ParameterSelection,
        sandbox: Sandbox,
        *,
        poll: Callable[[], None] | None = None,
        processes: Processes | None = None,
        name: str | None = None,
        graph_memory: int | None = None,
        autocast: torch.dtype | None = None,
    ) -> None:
        self.name = name
        self.processes = processes or SingleProcess()
        self.batches = batches
        self.parameters = parameters
        self.graphs = KeptGraphs(graph_memory)
        self._batch_loss = batch_loss
        self._sandbox = sandbox
        self._poll = poll
        self._autocast = autocast_to(autocast, parameters.tensors[0].device.type)

    @property
    def size(self) -> int:
        """Number of selected scalars, ``n``."""
        return self.parameters.size

    @property
    def device(self) -> torch.device:
        """Of the first selected parameter."""
        return self.parameters.tensors[0].device

    @property
    def dtype(self) -> torch.dtype:
        """Of the derivatives."""
        return self._sandbox.dtype

    def evaluate_batch(self, index: int) -> Tensor | None:
        """Loss of one frozen batch with its graph, from the state on entering the sandbox.

        Args:
            index: Position among the frozen batches.

        Returns:
            A scalar, or None for a batch that training would skip; errors as :meth:`evaluate`.
        """
        return self.evaluate(self.batches.batches[index])

    def evaluate(self, batch: FrozenBatch, *, seed: int | None = None) -> Tensor | None:
        """Loss of any batch with its graph, as :meth:`evaluate_batch`.

        Args:
            batch: To be evaluated.
            seed: Of the step's random numbers; the batch's index when None.

        Returns:
            A scalar, or None for a batch that training would skip.

        Raises:
            RefusedError: If the step returns a loss of more than one element.
            NonFiniteError: If the loss is NaN or infinite.
        """
        if self._poll is not None:
            self._poll()
        self._sandbox.reset(batch.index if seed is None else seed)
        with self._autocast():
            loss = self._batch_loss(batch.data, batch.index)
        if loss is None:
            return None
        if loss.numel() != 1:
            raise RefusedError(
                f"the training loss must be a single number, got shape {tuple(loss.shape)}. "
                "Reduce it by a mean in `training_step`."
            )
        value = float(loss.detach())
        if not math.isfinite(value):
            raise NonFiniteError(
                f"the training loss must be finite, got {value} on frozen batch {batch.index}. "
                "At such a point there is no Hessian; look for the first step with such a loss."
            )
        return loss.reshape(())

    def columns_of(self, vectors: Tensor) -> list[list[Tensor]]:
        """Vectors ``(n, b)`` in pieces of the parameters' shapes, on all processes or on none."""
        return on_all_or_none(
            self.processes,
            lambda: [self.parameters.split(v.contiguous()) for v in vectors.unbind(dim=1)],
        )

    def sum_over_batches(self, length: int, add: Callable[[Tensor, int], None]) -> Tensor:
        """Sum a vector over the frozen batches of all processes.

        The processes agree after each batch: a step may hold exchanges of its own, in which a
        process would wait for ever for one that has failed before.

        Args:
            length: Of the vector.
            add: Adds to a float64 vector the contribution of the batch at a position.

        Returns:
            ``(length,)`` float64, the same on all processes.
        """
        total = on_all_or_none(
            self.processes,
            lambda: torch.zeros(length, dtype=torch.float64, device=self.device),
        )
        for index in range(len(self.batches.batches)):
            on_all_or_none(self.processes, partial(add, total, index))
            if self.graphs.unsettled is not None:
                # all processes or none: a step that exchanges tensors runs on each or on none
                is_lost = self.graphs.get(index) is None
                self.graphs.settle(is_kept=not any_process(self.processes, is_lost))
        return self.processes.sum(total)

    @contextmanager
    def displaced(self, direction: Tensor, step: float) -> Iterator[None]:
        """Evaluate at ``w + step * direction`` inside.

        Args:
            direction: ``(n,)``.
            step: Factor of the direction.

        Yields:
            Nothing; the parameters' bits are put back at the end.
        """
        self.graphs.drop()
        deltas = [step * piece for piece in self.parameters.split(direction.contiguous())]
        with self._sandbox.displaced(self.parameters.tensors, deltas):
            yield
