"""The training loss over the frozen batches as a function of the parameters, with derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from lightning_hessian.batches import FrozenBatch, FrozenBatches
from lightning_hessian.errors import NonFiniteError, RefusedError
from lightning_hessian.objective.gradient import Gradient
from lightning_hessian.objective.graph import second_derivatives
from lightning_hessian.objective.isolation.sandbox import Sandbox
from lightning_hessian.objective.processes import Alone, Processes, agreed
from lightning_hessian.objective.products import EXACT, ProductQuality
from lightning_hessian.parameters import ParameterSelection

T = TypeVar("T")

BatchLoss = Callable[[Any, int], Tensor | None]
"""The loss of one frozen batch with its graph, or None for a batch that training would skip."""


class TrainingLoss:
    """``L(w) = sum_b (n_b / N) L_b(w)`` over the frozen batches ``b`` of weight ``n_b``.

    For a loss that is a mean over samples, the true batch sizes as weights make ``L`` independent
    of how the samples are batched. A batch whose step returns None has no weight. Derivatives are
    taken by reverse mode, twice, with respect to the module's real parameters; sums over batches
    are in float64. A gradient costs one gradient unit, a block of ``b`` products one forward, one
    backward and ``b`` second backwards.

    Several processes share the batches. Each method that sums over batches is then called on all of
    them at the same time, gives the same on each, and raises on all what fails on one.

    Args:
        batch_loss: The loss of one batch.
        batches: The frozen sample, or this process's share of it.
        parameters: What to differentiate by.
        sandbox: Entered by the caller; reset before each evaluation.
        poll: Called before each evaluation; raises if the measurement is to be abandoned.
        processes: That share the batches, equally many each.
        name: Which loss of the module it is; None for that of its ``training_step``.

    Attributes:
        held_out: The same loss over samples that training does not see, if there are any.
    """

    held_out: TrainingLoss | None = None

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
    ) -> None:
        self.name = name
        self.processes = processes or Alone()
        self.batches = batches
        self.parameters = parameters
        self._batch_loss = batch_loss
        self._sandbox = sandbox
        self._poll = poll
        # of the batches that are not skipped: not known before the first gradient
        self._total_weight = 0.0

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

    @property
    def products(self) -> ProductQuality:
        """How :meth:`hessian_products` is made, and what it is off by as far as is known now."""
        return EXACT

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
        self._check_usable(total_weight, used)
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
        total_weight = self.total_weight
        count = vectors.shape[1]
        columns = agreed(
            self.processes,
            lambda: [self.parameters.split(vectors[:, j].contiguous()) for j in range(count)],
        )
        total = self.sum_over_batches(count * self.size, partial(self._add_products, columns))
        total /= total_weight
        return total.view(count, self.size).to(self.dtype).T

    def batch_products(
        self, index: int, columns: list[list[Tensor]]
    ) -> Iterator[tuple[Tensor | None, ...]] | None:
        """Multiply vectors by the Hessian of one batch's loss, times its weight.

        Args:
            index: Position among this process's frozen batches.
            columns: Vectors, each in pieces of the parameters' shapes.

        Returns:
            For each vector its product in such pieces, None where it is zero, and nothing at all if
            the whole Hessian is zero; None for a batch that training would skip.
        """
        loss = self.evaluate_batch(index)
        if loss is None:
            return None
        if not loss.requires_grad:
            return iter(())
        # the loss is weighted, not its derivatives: where a step exchanges tensors, the derivative
        # at this process's parameters is of the sum of all processes' losses
        weighted = self.batches.batches[index].weight * loss
        tensors = self.parameters.tensors
        first = torch.autograd.grad(weighted, tensors, create_graph=True, allow_unused=True)
        return second_derivatives(first, tensors, columns)

    def together(self, compute: Callable[..., T], *tensors: Tensor) -> T:
        """Compute something from this loss: what a conductor lets all processes do at once.

        Args:
            compute: Takes a :class:`TrainingLoss` and the tensors.
            tensors: Passed on.

        Returns:
            What it gives.
        """
        return compute(self, *tensors)

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
        total = agreed(
            self.processes,
            lambda: torch.zeros(length, dtype=torch.float64, device=self.device),
        )
        for index in range(len(self.batches.batches)):
            agreed(self.processes, partial(add, total, index))
        return self.processes.sum(total)

    def _add_gradient(self, payload: Tensor, index: int) -> None:
        """Add a batch's weighted gradient, weighted loss, weight, and which parameters are used."""
        loss = self.evaluate_batch(index)
        if loss is None:
            return
        end, weight = self.size, self.batches.batches[index].weight
        payload[end] += weight * loss.detach().double()
        payload[end + 1] += weight
        if loss.requires_grad:
            pieces = self._first_derivatives(weight * loss)
            self.parameters.add_flat(payload[:end], pieces, 1.0)
            payload[end + 2 :] += torch.tensor([p is not None for p in pieces]).to(payload)

    def _add_products(self, columns: list[list[Tensor]], total: Tensor, index: int) -> None:
        """Add a batch's weighted products with each vector, one after the other."""
        for j, second in enumerate(self.batch_products(index, columns) or ()):
            self.parameters.add_flat(total[j * self.size : (j + 1) * self.size], second, 1.0)

    @contextmanager
    def displaced(self, direction: Tensor, step: float) -> Iterator[None]:
        """Evaluate at ``w + step * direction`` inside.

        Args:
            direction: ``(n,)``.
            step: Factor of the direction.

        Yields:
            Nothing; the parameters' bits are put back at the end.
        """
        deltas = [step * piece for piece in self.parameters.split(direction.contiguous())]
        with self._sandbox.displaced(self.parameters.tensors, deltas):
            yield

    def _first_derivatives(self, loss: Tensor) -> Sequence[Tensor | None]:
        """By the selected parameters, of a batch's loss whose graph is not needed any more."""
        return torch.autograd.grad(loss, self.parameters.tensors, allow_unused=True)

    def _check_usable(self, total_weight: float, used: list[bool]) -> None:
        if total_weight == 0:
            raise RefusedError(
                f"`training_step` returned None for each of the {len(self.batches.batches)} frozen "
                "batches, so there is no loss to measure. Raise `num_samples`, or return a loss."
            )
        if not any(used):
            raise RefusedError(
                "the training loss does not depend on any selected parameter: "
                f"{', '.join(self.parameters.names[:5])}. Was it computed under `torch.no_grad()` "
                "or from detached tensors? Otherwise select others by `parameters=`."
            )
